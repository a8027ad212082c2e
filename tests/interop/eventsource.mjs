// The `eventsource` package of npm as the client of streams behind gripd.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as after } from 'node:timers/promises';

const root = resolve(import.meta.dirname, '../..');
const gripdPath = resolve(root, process.env.GRIPD || 'target/release/gripd');
// The package is installed outside of the source tree, where imports do not look.
const { EventSource } = createRequire(join(root, 'target/interop/node/package.json'))('eventsource');

// The longest that anything here may take; what works takes milliseconds.
const DEADLINE = 10_000;
// A drain may take its ten seconds and the grace of a slow client.
const DRAIN = 30_000;
const LOOK_EVERY = 20;
// How soon a client reconnects: its usual three seconds would only make this slow.
const RETRY = 30;

class Failed extends Error {}

function check(condition, why) {
  if (!condition) throw new Failed(why);
}

function same(got, expected, what) {
  const [is, must] = [JSON.stringify(got), JSON.stringify(expected)];
  check(is === must, `${what}: got ${String(is).slice(0, 300)}, expected ${String(must).slice(0, 300)}`);
}

async function eventually(what, probe) {
  const until = performance.now() + DEADLINE;
  for (;;) {
    const found = await probe();
    if (found) return found;
    check(performance.now() < until, `waited ${DEADLINE} ms in vain: ${what}`);
    await after(LOOK_EVERY);
  }
}

// gripd as a process on free ports.
class Gripd {
  static async start(route) {
    const gripd = new Gripd();
    const addresses = ['--listen', '127.0.0.1:0', '--control', '127.0.0.1:0'];
    gripd.child = spawn(gripdPath, ['--route', route, ...addresses], { stdio: ['ignore', 'ignore', 'pipe'] });
    gripd.child.on('error', (error) => { gripd.broken = error; });
    gripd.ended = new Promise((done) => { gripd.child.once('close', done); });
    running.add(gripd);
    gripd.log = [];
    createInterface(gripd.child.stderr).on('line', (line) => gripd.log.push(line));
    try {
      [, gripd.client, gripd.control] = await eventually('gripd starts', () => gripd.#started());
    } catch (error) {
      await gripd.stop();
      throw error;
    }
    return gripd;
  }

  #started() {
    check(!this.broken && this.child.exitCode === null, `gripd did not start: ${this.broken ?? this.log.join(' ')}`);
    return this.log.map((line) => line.match(/started .*clients=(\S+) control=(\S+)/)).find(Boolean);
  }

  // Publishes and returns the receipt's items.
  async publish(...items) {
    const answer = await fetch(`http://${this.control}/publish`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ items }),
      signal: AbortSignal.timeout(DEADLINE),
    });
    const text = await answer.text();
    same(answer.status, 200, `the status of a publish (${text.trim()})`);
    return JSON.parse(text).items;
  }

  // Asks it to end, once: a second signal would cut the drain short.
  drain() {
    if (!this.draining) this.child.kill('SIGTERM');
    this.draining = true;
  }

  // Ends it by its pid; returns its exit code.
  async stop() {
    this.drain();
    const ended = await Promise.race([this.ended, after(DRAIN, 'late', { ref: false })]);
    if (ended === 'late') {
      this.child.kill('SIGKILL');
      await this.ended;
    }
    running.delete(this);
    return ended;
  }
}

const running = new Set();

// An origin that holds a stream for each user, and refuses those who were kicked.
class Origin {
  requests = [];
  kicked = new Set();

  async listen() {
    this.server = createServer((request, response) => this.#answer(request, response));
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.address = `127.0.0.1:${this.server.address().port}`;
    return this;
  }

  #answer(request, response) {
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
    response.end(`retry: ${RETRY}\nevent: hello\ndata: ${user}\n\n`);
  }

  of(user) {
    return this.requests.filter((request) => request.user === user);
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((done) => { this.server.close(done); });
  }
}

// An EventSource that notes all that happens to it.
class Listener {
  events = [];
  errors = [];

  constructor(gripd, user) {
    this.source = new EventSource(`http://${gripd.client}/events?user=${user}`);
    for (const type of ['hello', 'message', 'goodbye']) {
      this.source.addEventListener(type, (e) => this.events.push({ type, data: e.data, id: e.lastEventId }));
    }
    this.source.addEventListener('error', (e) => {
      this.errors.push({ code: e.code, state: this.source.readyState });
    });
  }

  data(type) {
    return this.events.filter((event) => event.type === type).map((event) => event.data);
  }

  // Waits until it has so many events of a type.
  async has(type, count) {
    await eventually(`${count} ${type} events`, () => this.data(type).length >= count);
    return this.data(type);
  }
}

// Runs a scene with a gripd and an origin of its own, and ends both.
async function stage(scene) {
  const origin = await new Origin().listen();
  const listeners = [];
  let gripd, code;
  try {
    gripd = await Gripd.start(`* ${origin.address}`);
    const listen = async (user) => {
      const listener = new Listener(gripd, user);
      listeners.push(listener);
      await listener.has('hello', 1);
      return listener;
    };
    await scene({ gripd, origin, listen });
  } finally {
    for (const { source } of listeners) source.close();
    code = await gripd?.stop();
    await origin.stop();
  }
  same(code, 0, "gripd's exit code after SIGTERM");
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
  same([receipt.delivered, receipt.closed, receipt.cut], [1, 1, 0], 'delivered, closed and cut');
  same(await bob.has('goodbye', 1), ['you were kicked'], 'the goodbye');
  const [end] = await eventually('the stream ends', () => bob.errors.length && bob.errors);
  // Whether it is a clean end Node does not tell of an answer with `Connection: close`: publishers.py looks.
  same(end.state, EventSource.CONNECTING, 'the state after the end');
}

async function eventsource_stays_out_after_a_kick({ gripd, origin, listen }) {
  const [alice, bob] = [await listen('alice'), await listen('bob')];
  origin.kicked.add('bob');
  await gripd.publish(kick('bob'));
  await eventually('bob stops', () => bob.source.readyState === EventSource.CLOSED);
  same(bob.errors.at(-1).code, 403, 'the status of the reconnect');
  await gripd.publish(message('room', 'later'));
  same(await alice.has('message', 1), ['later'], 'what the other one got');
  same([alice.errors, alice.data('goodbye')], [[], []], 'what else the other one saw');
  same(bob.events.map(({ type }) => type), ['hello', 'goodbye'], 'what the kicked one saw');
  same([origin.of('alice').length, origin.of('bob').length], [1, 2], 'the requests of both');
}

async function eventsource_comes_back_after_a_mere_close({ gripd, origin, listen }) {
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
  const [end] = await eventually('the stream ends', () => alice.errors.length && alice.errors);
  same(end.state, EventSource.CONNECTING, 'the state after the end');
}

const scenes = [
  eventsource_gets_events_in_order,
  eventsource_puts_an_event_together_from_two_items,
  eventsource_gets_goodbye_and_then_the_end,
  eventsource_stays_out_after_a_kick,
  eventsource_comes_back_after_a_mere_close,
  eventsource_sees_the_end_when_gripd_drains,
];

async function outcome(scene) {
  try {
    await stage(scene);
    return null;
  } catch (error) {
    const kind = error instanceof Failed ? '' : `${error.name}: `;
    return (kind + error.message + (error.cause ? `: ${error.cause.message}` : '')).replace(/\s+/g, ' ');
  }
}

process.once('SIGTERM', async () => {
  await Promise.all([...running].map((gripd) => gripd.stop()));
  process.exit(1);
});

let failures = 0;
for (const scene of scenes) {
  const why = await outcome(scene);
  if (why !== null) failures += 1;
  console.log(why === null ? `ok ${scene.name}` : `FAILED ${scene.name}: ${why}`);
}
process.exit(failures ? 1 : 0);
