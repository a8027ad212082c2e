// The `eventsource` package of npm as the client of streams behind gripd.

import { Listener } from './clients.mjs';
import { RETRY, behindGripd, eventually, run, same } from './harness.mjs';

// An origin that holds a stream for each user, and refuses those who were kicked.
class Origin {
  requests = [];
  kicked = new Set();

  answer(request, response) {
    const user = new URL(request.url, 'http://origin').searchParams.get('user');
    this.requests.push({ user, lastEventId: request.headers['last-event-id'] });
    if (this.kicked.has(user)) {
      response.writeHead(403, { 'Content-Type': 'text/plain' });
      return response.end('you were kicked\n');
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Grip-Hold': 'stream',
      'Grip-Channel': `room, user-${user}`,
    });
    return response.end(`retry: ${RETRY}\nevent: hello\ndata: ${user}\n\n`);
  }

  of(user) {
    return this.requests.filter((request) => request.user === user);
  }
}

// Runs a scene with a gripd and an origin of its own.
async function stage(scene) {
  const origin = new Origin();
  await behindGripd((request, response) => origin.answer(request, response), ({ gripd, open }) => scene({
    gripd,
    origin,
    listen: async (user) => {
      const listener = open(new Listener(gripd.client, `/events?user=${user}`));
      await listener.has('hello', 1);
      return listener;
    },
  }));
}

const event = (channel, content, more) => ({ channel, formats: { 'http-stream': { content } }, ...more });
const message = (channel, text) => event(channel, `data: ${text}\n\n`);
const kick = (user) => event(`user-${user}`, 'event: goodbye\ndata: you were kicked\n\n', { action: 'close' });

async function eventsource_gets_events_in_order({ gripd, listen }) {
  const alice = await listen('alice');
  const texts = Array.from({ length: 200 }, (_, number) => `žluť ${number}`);
  for (const text of texts.slice(0, 100)) await gripd.publish(message('room', text));
  await gripd.publish(...texts.slice(100).map((text) => message('room', text)));
  await gripd.publish(event('room', 'data: two\ndata: lines\n\n'));
  same(await alice.has('message', 201), [...texts, 'two\nlines'], 'the events');
  same(alice.errors, [], 'the errors');
}

async function eventsource_puts_an_event_together_from_two_items({ gripd, listen }) {
  const alice = await listen('alice');
  await gripd.publish(event('room', 'da'));
  await gripd.publish(event('room', 'ta: whole\n'), event('room', '\n'));
  same(await alice.has('message', 1), ['whole'], 'the events');
}

async function eventsource_gets_goodbye_and_then_the_end({ gripd, origin, listen }) {
  const bob = await listen('bob');
  origin.kicked.add('bob');
  const [receipt] = await gripd.publish(kick('bob'));
  same([receipt.delivered, receipt.closed, receipt.cut], [1, 1, 0], 'delivered, closed and cut in the receipt');
  same(await bob.has('goodbye', 1), ['you were kicked'], 'the goodbye');
  const end = await bob.end();
  // Node does not report whether a response with `Connection: close` ended cleanly. publishers.py checks this.
  same(end.state, bob.source.CONNECTING, 'the state after the end');
}

async function eventsource_stays_out_after_a_kick({ gripd, origin, listen }) {
  const [alice, bob] = [await listen('alice'), await listen('bob')];
  origin.kicked.add('bob');
  await gripd.publish(kick('bob'));
  await eventually("bob's EventSource gives up", () => bob.source.readyState === bob.source.CLOSED);
  same(bob.errors.at(-1).code, 403, 'the status of the reconnect');
  await gripd.publish(message('room', 'later'));
  same(await alice.has('message', 1), ['later'], 'the messages to alice');
  same([alice.errors, alice.texts('goodbye')], [[], []], 'the errors and the goodbyes that alice saw');
  same(bob.events.map(({ type }) => type), ['hello', 'goodbye'], 'the types of the events to bob');
  same([origin.of('alice').length, origin.of('bob').length], [1, 2], 'the numbers of requests of alice and of bob');
}

async function eventsource_reconnects_after_a_close_if_the_origin_accepts_it({ gripd, origin, listen }) {
  const bob = await listen('bob');
  await gripd.publish(event('room', 'id: 7\ndata: before\n\n'));
  await gripd.publish({ channel: 'user-bob', action: 'close' });
  await bob.has('hello', 2);
  same(origin.of('bob').map((request) => request.lastEventId ?? null), [null, '7'], 'Last-Event-ID at the origin');
  await gripd.publish(message('room', 'after'));
  same(await bob.has('message', 2), ['before', 'after'], 'the events');
}

async function eventsource_sees_the_end_when_gripd_drains({ gripd, listen }) {
  const alice = await listen('alice');
  gripd.drain();
  const end = await alice.end();
  same(end.state, alice.source.CONNECTING, 'the state after the end');
}

await run([
  eventsource_gets_events_in_order,
  eventsource_puts_an_event_together_from_two_items,
  eventsource_gets_goodbye_and_then_the_end,
  eventsource_stays_out_after_a_kick,
  eventsource_reconnects_after_a_close_if_the_origin_accepts_it,
  eventsource_sees_the_end_when_gripd_drains,
], stage);
