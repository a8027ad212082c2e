// A backend with Express and Fanout's `serve-grip` behind gripd. Nothing is stored: the application keeps its events
// in an array. In the end every client must have every event, in order and only once, whatever has failed meanwhile.

import { setTimeout as after } from 'node:timers/promises';

import { Listener, PollClient, StreamClient } from './clients.mjs';
import {
  DEADLINE, Failed, behindGripd, check, eventually, exchange, freeAddress, importPackage, run, same,
} from './harness.mjs';
import { App, POLL_SECONDS, SIGNER, sse } from './serve_grip_app.mjs';

const { default: express } = await importPackage('express');
const { ServeGrip } = await importPackage('@fanoutio/serve-grip');
const { Channel, HttpResponseFormat, HttpStreamFormat, Publisher } = await importPackage('@fanoutio/grip');

// The time limit, in milliseconds, until all clients have all events after a failure. It is long enough for a drain
// of ten seconds and the long-polls after it.
const RECOVERY = 40_000;
// The time, in milliseconds, that a scene waits after the last event for an event that comes twice.
const LINGER = 500;

// Runs a scene with a gripd and an application of its own.
async function stage(scene) {
  const control = await freeAddress();
  const app = new App(control);
  await behindGripd(app.express, ({ gripd, open, direct }) => scene({
    app,
    gripd,
    direct,
    get: (path, options) => exchange(gripd.client, path, options),
    stream: (path = '/feed/stream') => open(new StreamClient(gripd.client, path).start()),
    poll: (path = '/feed/poll') => open(new PollClient(gripd.client, path).start()),
    listen: () => open(new Listener(gripd.client, '/feed/stream')),
  }), { control });
}

// Waits until all clients have all events, and checks that no event came twice or out of order.
async function haveAll(app, clients, milliseconds = DEADLINE) {
  const behind = () => clients.filter((client) => client.events.length < app.feed.events.length);
  try {
    await eventually('every client has every event', () => behind().length === 0, milliseconds);
  } catch (error) {
    const [one] = behind();
    const has = one && `one has ${one.events.length} of ${app.feed.events.length}, up to ${one.events.at(-1)?.id}`;
    throw has ? new Failed(`${error.message}; ${behind().length} of ${clients.length} clients do not: ${has}`) : error;
  }
  await after(LINGER);
  for (const client of clients) {
    same(client.events, app.feed.events, `the events of a ${client.constructor.name}`);
    same([...client.statuses], [200], `the statuses that a ${client.constructor.name} saw`);
  }
}

// Makes sure that gripd holds all clients: publishes three events, and waits until each client has them.
async function settle(app, clients) {
  for (let number = 0; number < 3; number += 1) await app.say(`settle ${number}`);
  await haveAll(app, clients);
}

const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));
const grips = (headers) => Object.keys(headers).filter((name) => name.startsWith('grip-'));

async function the_middleware_recognizes_requests_from_gripd({ app, get, direct }) {
  app.express.get('/who', async (req, res) => {
    const { isProxied, isSigned, needsSigned } = req.grip;
    // The middleware does not await its own check, so any signature makes its `isSigned` true. The
    // check of the publisher is awaited here.
    const { isSigned: isValid } = await app.publisher.validateGripSig(req.get('Grip-Sig'));
    res.json({ isProxied, isSigned, needsSigned, isValid });
  });
  const yes = { isProxied: true, isSigned: true, needsSigned: true, isValid: true };
  same(JSON.parse((await get('/who')).body), yes, 'req.grip behind gripd');
  const forged = await get('/who', { headers: { 'Grip-Sig': 'forged', 'Grip-Feature': 'forged' } });
  same(JSON.parse(forged.body), yes, 'req.grip behind gripd, for a client with a signature of its own');
  const no = { isProxied: false, isSigned: false, needsSigned: false, isValid: false };
  same(JSON.parse((await exchange(direct, '/who')).body), no, 'req.grip without gripd');
}

async function the_signature_is_valid_for_its_key_and_issuer_only({ app, get }) {
  await get('/nothing');
  const token = app.requests[0].headers['grip-sig'];
  const isValid = async (verify_key, verify_iss) => {
    const publisher = new Publisher({ control_uri: app.control, verify_key, verify_iss });
    return (await publisher.validateGripSig(token)).isSigned;
  };
  same(await isValid(SIGNER.key, SIGNER.iss), true, 'whether the signature is valid with the key and the issuer');
  same(await isValid(Buffer.from(SIGNER.key), SIGNER.iss), true, 'whether it is valid with the key as bytes');
  same(await isValid('another', SIGNER.iss), false, 'whether the signature is valid with another key');
  same(await isValid(SIGNER.key, 'another'), false, 'whether the signature is valid with another issuer');
  const { iat, exp } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  check(exp > (iat ?? 0) && exp > Date.now() / 1000, `the signature has expired: ${exp}`);
}

async function responses_without_a_hold_pass_through({ app, get }) {
  app.express.get('/plain', (req, res) => res.set('X-Plain', 'yes').json({ q: req.query.q }));
  app.express.post('/echo', express.text(), (req, res) => res.status(201).send(req.body.toUpperCase()));
  app.express.get('/large', (_, res) => res.type('text').send('x'.repeat(1_000_000)));
  app.express.get('/parts', async (_, res) => {
    for (const part of ['a', 'b', 'c']) {
      res.write(part);
      await after(20);
    }
    res.end();
  });
  app.express.get('/moved', (_, res) => res.redirect('/plain'));
  const plain = await get('/plain?q=%C5%BElu%C5%A5');
  same([plain.status, plain.headers['x-plain'], plain.body], [200, 'yes', '{"q":"žluť"}'], 'JSON');
  same(grips(plain.headers), [], 'GRIP headers in the response');
  const unchanged = await get('/plain?q=%C5%BElu%C5%A5', { headers: { 'If-None-Match': plain.headers.etag } });
  same([unchanged.status, unchanged.body], [304, ''], 'the response to If-None-Match');
  const headers = { 'Content-Type': 'text/plain' };
  const echo = await get('/echo', { method: 'POST', headers, body: 'hello' });
  same([echo.status, echo.body], [201, 'HELLO'], 'a POST');
  same((await get('/large')).body.length, 1_000_000, 'the length of a large response');
  same((await get('/parts')).body, 'abc', 'the body of a response in parts');
  const moved = await get('/moved');
  same([moved.status, moved.headers.location], [302, '/plain'], 'a redirect');
  same((await get('/absent')).status, 404, 'the status of an absent page');
}

async function streams_get_text_and_bytes_until_they_are_closed({ app, stream }) {
  app.express.get('/room', (req, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel('room');
    instruct.addChannel(['lobby', new Channel(`user-${req.query.user}`)]);
    instruct.setHoldStream();
    instruct.meta = { user: req.query.user, quote: 'a "quoted" one' };
    res.status(202).set('X-Room', '7').type('text').send('[stream open]\n');
  });
  const [alice, bob] = [stream('/room?user=alice'), stream('/room?user=bob')];
  await eventually('both streams are open', () => [alice, bob].every((client) => client.bytes === '[stream open]\n'));
  same([alice.head.statusCode, alice.head.headers['x-room']], [202, '7'], 'the status and a header of the stream');
  same(grips(alice.head.headers), [], 'GRIP headers that the client got');
  await app.publisher.publishHttpStream('room', 'to the room\n');
  await app.publisher.publishHttpStream('lobby', Buffer.from('bytes, žluť\n'));
  await app.publisher.publishHttpStream('user-alice', new HttpStreamFormat('to alice\n'));
  await app.publisher.publishHttpStream('elsewhere', 'to nobody\n');
  await app.publisher.publishHttpStream('user-alice', new HttpStreamFormat(null, true));
  await eventually('the stream of alice ends', () => alice.ended === 1);
  const both = '[stream open]\nto the room\nbytes, žluť\n';
  check(alice.bytes.startsWith(`${both}to alice\n`), `alice got ${alice.bytes}`);
  same(bob.bytes, both, 'the body of the stream of bob');
  same(bob.ended, 0, 'how often the stream of bob ended');
}

async function keep_alives_are_sent_to_silent_streams({ app, stream }) {
  const keep = (path, data) => app.express.get(path, (_, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel('silence');
    instruct.setHoldStream();
    instruct.setKeepAlive(data, 1);
    res.type('text').send('begin|');
  });
  // The library writes the first text with escapes, but the second in Base64, because it cannot escape one of its
  // bytes.
  keep('/text', ':\r\n\\x\n');
  keep('/bytes', 'a\u0001b;');
  const [text, bytes] = [stream('/text'), stream('/bytes')];
  await eventually('two keep-alives of text have come', () => text.bytes.startsWith('begin|:\r\n\\x\n:\r\n\\x\n'));
  await eventually('two keep-alives of bytes have come', () => bytes.bytes.startsWith('begin|a\u0001b;a\u0001b;'));
}

async function long_polls_get_the_published_response({ app, get }) {
  app.express.get('/wait', (req, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel(`wait-${req.query.n}`);
    instruct.setHoldLongPoll(20);
    res.set({ 'X-Kept': 'kept', 'X-Changed': 'before' }).type('text').send('nothing came\n');
  });
  // Publishes again and again until the poll is answered, because a publish may come before gripd holds the poll.
  const published = async (n, data) => {
    const answer = get(`/wait?n=${n}`);
    let isThere = false;
    answer.then(() => { isThere = true; }, () => { isThere = true; });
    await eventually(`poll ${n} is answered`, async () => {
      if (!isThere) await app.publisher.publishHttpResponse(`wait-${n}`, data);
      return isThere;
    });
    return answer;
  };
  const plain = await published(1, 'hello\n');
  same([plain.status, plain.body, plain.headers['x-kept']], [200, 'hello\n', 'kept'], 'a published body alone');
  const headers = { 'X-Changed': 'after', 'Content-Type': 'text/x-note' };
  const full = await published(2, new HttpResponseFormat({ code: 201, reason: 'Made', headers, body: 'žluť' }));
  same([full.status, full.reason, full.body], [201, 'Made', 'žluť'], 'a whole response');
  const at = ['x-kept', 'x-changed', 'content-type'].map((name) => full.headers[name]);
  same(at, ['kept', 'after', 'text/x-note'], 'the headers of the whole response');
  same((await published(3, new HttpResponseFormat({ body: Buffer.from('bytes') }))).body, 'bytes', 'a body of bytes');
  same(grips(full.headers), [], 'GRIP headers that the client got');
}

async function long_polls_time_out_with_the_response_of_the_application({ app, get }) {
  const wait = (path, answer) => app.express.get(path, (_, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel(new Channel('wait', 'v7'));
    instruct.setHoldLongPoll(POLL_SECONDS);
    answer(res, instruct);
  });
  wait('/body', (res) => res.type('text').send('nothing came\n'));
  // The library sends 200 with `Grip-Status: 304`, because a response with 304 could not carry the GRIP headers.
  wait('/304', (res) => res.status(304).end());
  wait('/status', (res, instruct) => {
    instruct.setStatus(404);
    res.type('text').send('not found\n');
  });
  // A next link is for streams. It must not change anything for a long-poll.
  wait('/link', (res, instruct) => {
    instruct.setNextLink('/next', 1);
    res.type('text').send('nothing came\n');
  });
  const began = performance.now();
  const paths = ['/body', '/304', '/status', '/link'];
  const answers = await Promise.all(paths.map((path) => get(path)));
  const seconds = (performance.now() - began) / 1000;
  check(seconds > POLL_SECONDS - 0.5 && seconds < POLL_SECONDS + 3, `the polls took ${seconds.toFixed(1)} s`);
  const got = answers.map(({ status, body }) => [status, body]);
  const nothing = [200, 'nothing came\n'];
  same(got, [nothing, [304, ''], [404, 'not found\n'], nothing], 'the responses at the timeout');
  same(app.requests.filter(({ path }) => path === '/next'), [], 'requests for the link');
}

async function a_prefix_keeps_applications_apart({ app, stream }) {
  const serveGrip = new ServeGrip({ grip: { control_uri: app.control, ...verifying() }, prefix: 'app-' });
  const inner = express.Router();
  app.express.get('/prefixed', (req, res, next) => {
    // The outer middleware has already set `req.grip`. Without that, the inner one handles the request, too.
    delete req.grip;
    next();
  }, serveGrip, inner);
  inner.get('/prefixed', (_, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel('room');
    instruct.setHoldStream();
    res.type('text').send('begin|');
  });
  const client = stream('/prefixed');
  await eventually('the stream is open', () => client.bytes === 'begin|');
  await app.publisher.publishHttpStream('room', 'for others|');
  await serveGrip.getPublisher().publishHttpStream('room', 'with a prefix|');
  await app.publisher.publishHttpStream('app-room', 'by its whole name|');
  const all = 'begin|with a prefix|by its whole name|';
  await eventually('the stream has both items', () => client.bytes.length >= all.length);
  same(client.bytes, all, 'the body of the stream');
}

const verifying = () => ({ verify_iss: SIGNER.iss, verify_key: SIGNER.key });

// The library cannot write such a body, so the application writes it. Express adds a charset to its Content-Type.
async function an_instruct_may_be_json({ app, get, stream }) {
  const instruct = (path, body) => app.express.get(path, (_, res) => {
    res.type('application/grip-instruct').send(JSON.stringify(body));
  });
  instruct('/json/stream', {
    hold: { mode: 'stream', channels: [{ name: 'json' }], 'keep-alive': { content: ':|', timeout: 1 } },
    response: { headers: { 'Content-Type': 'text/plain', 'X-Json': 'yes' }, body: 'begin|' },
  });
  instruct('/json/poll', {
    hold: { channels: [{ name: 'json' }], timeout: POLL_SECONDS },
    response: { code: 203, reason: 'Other', headers: [['X-Json', 'yes']], 'body-bin': btoa('nothing came') },
  });
  instruct('/json/answer', { response: { code: 404, body: 'no such thing' } });
  const answer = await get('/json/answer');
  same([answer.status, answer.body], [404, 'no such thing'], 'a response without a hold');
  const client = stream('/json/stream');
  const waiting = get('/json/poll');
  await eventually('the stream is open', () => client.bytes.startsWith('begin|'));
  same(
    [client.head.headers['x-json'], client.head.headers['content-type']], ['yes', 'text/plain'],
    'two headers of the stream',
  );
  await app.publisher.publishHttpStream('json', 'published|');
  await eventually('a message and a keep-alive have come', () => /published\|.*:\|/.test(client.bytes));
  const late = await waiting;
  same([late.status, late.reason, late.headers['x-json']], [203, 'Other', 'yes'], "the poll's head");
  same(late.body, 'nothing came', "the poll's body");
}

async function next_links_without_a_hold_are_joined_to_one_response({ app, get }) {
  app.express.get('/pages', (req, res) => {
    const page = Number(req.query.page ?? 1);
    // The response has an empty Grip-Channel, because the library sends this header with every instruct.
    if (page < 4) res.grip.startInstruct().setNextLink(`/pages?page=${page + 1}`);
    res.set('X-Page', String(page)).type('text').send(`page ${page}\n`);
  });
  const { status, headers, body } = await get('/pages');
  same([status, headers['x-page'], body], [200, '1', 'page 1\npage 2\npage 3\npage 4\n'], 'the joined pages');
}

async function next_links_are_requested_when_a_stream_is_silent({ app, stream }) {
  const client = stream();
  await settle(app, [client]);
  // This event is added to the feed, but not published.
  const { prevId } = app.feed.add('unpublished');
  await haveAll(app, [client]);
  check(app.recoveries('/feed/stream', prevId).length > 0, 'gripd did not request a link with the last id');
  await app.say('after it');
  await haveAll(app, [client]);
  same(client.opened, 1, 'how often the client connected');
}

async function streams_that_missed_an_event_get_it_by_their_link({ app, stream }) {
  app.linkSeconds = 600;
  const clients = times(5, () => stream());
  await settle(app, clients);
  const lost = app.feed.add('lost');
  await app.say('tells of the gap');
  await haveAll(app, clients);
  check(app.recoveries('/feed/stream', lost.prevId).length > 0, 'gripd did not request a link with the last id');
  await app.say('after it');
  await haveAll(app, clients);
  same(clients.map(({ opened }) => opened), [1, 1, 1, 1, 1], 'how often each client connected');
}

async function long_polls_that_missed_an_event_are_requested_again({ app, poll }) {
  app.pollSeconds = 600;
  const clients = times(5, () => poll());
  await settle(app, clients);
  const lost = app.feed.add('lost');
  await app.say('tells of the gap');
  await haveAll(app, clients);
  check(app.recoveries('/feed/poll', lost.prevId).length > 0, 'gripd did not request a poll again with the last id');
  await app.say('after it');
  await haveAll(app, clients);
}

// The application answers with an id that is outdated when gripd reads it, as if an item had been published in between.
async function a_long_poll_with_an_outdated_id_is_requested_again_at_once({ app, stream, get }) {
  app.express.get('/behind', (req, res) => {
    const id = req.get('Grip-Last')?.match(/^late; last-id=(\w+)$/)?.[1];
    if (id !== undefined) return res.type('text').send(`after ${id}`);
    const instruct = res.grip.startInstruct();
    instruct.addChannel(new Channel('late', 'v1'));
    instruct.setHoldLongPoll(600);
    return res.type('text').send('nothing came');
  });
  app.express.get('/watch', (_, res) => {
    const instruct = res.grip.startInstruct();
    instruct.addChannel('late');
    instruct.setHoldStream();
    res.type('text').send('begin|');
  });
  // While a connection holds the channel, gripd is sure to know its last id.
  const watcher = stream('/watch');
  await eventually('the stream is open', () => watcher.bytes === 'begin|');
  await app.publisher.publishHttpStream('late', 'two|', 'v2', 'v1');
  await eventually('the stream has the item', () => watcher.bytes === 'begin|two|');
  const { status, body } = await get('/behind');
  same([status, body], [200, 'after v1'], 'the status and the body of the response');
}

async function events_published_out_of_order_come_in_order({ app, stream, poll }) {
  const clients = [...times(3, () => stream()), ...times(3, () => poll())];
  await settle(app, clients);
  same(
    new Set(await Promise.all(times(50, (number) => app.say(`at once ${number}`)))).has(false), false,
    'whether a publish was refused',
  );
  await haveAll(app, clients, RECOVERY);
  same(clients.slice(0, 3).map(({ opened }) => opened), [1, 1, 1], 'how often each stream connected');
}

async function the_same_event_published_twice_comes_once({ app, stream, poll }) {
  const clients = [stream(), poll()];
  await settle(app, clients);
  const event = app.feed.add('twice');
  const publish = ({ id, prevId, text }) => app.publisher.publishFormats('feed', [
    new HttpStreamFormat(sse({ id, text })),
    new HttpResponseFormat({ body: JSON.stringify([{ id, text }]) }),
  ], id, prevId);
  await publish(event);
  await publish(event);
  await app.say('after it');
  await publish(event);
  await haveAll(app, clients);
}

async function clients_that_are_cut_off_miss_nothing({ app, stream, poll }) {
  const clients = [...times(8, () => stream()), ...times(8, () => poll())];
  await settle(app, clients);
  for (let number = 0; number < 200; number += 1) {
    await app.say(`while cut ${number}`);
    if (number % 3 === 0) clients[(number / 3) % clients.length].cut();
    await after(5);
  }
  await haveAll(app, clients, RECOVERY);
  check(clients.slice(0, 8).every(({ opened }) => opened > 1), 'there is a stream that never reconnected');
}

async function eventsource_is_closed_again_and_again_and_misses_nothing({ app, listen }) {
  const listener = listen();
  await app.say('first');
  await eventually('the stream is open', () => listener.opened === 1);
  for (let number = 0; number < 100; number += 1) {
    await app.say(`while closed ${number}`);
    // This closes the stream by its other channel. In `feed` an item without an id would break the chain of ids.
    if (number % 25 === 20) await app.publisher.publishHttpStream('everybody', new HttpStreamFormat(null, true));
    await after(5);
  }
  await eventually('all events have come', () => listener.events.length >= app.feed.events.length);
  await after(LINGER);
  same(listener.events, app.feed.events.map((event) => ({ type: 'message', ...event })), 'the events');
  check(listener.opened > 1, 'the EventSource never reconnected');
}

// Publishes events while `upset` disturbs gripd. Publishes may fail, and are not repeated. Checks that all clients
// have all events in the end, and returns how many publishes failed.
async function through({ app, stream, poll }, upset) {
  const clients = [...times(8, () => stream()), ...times(8, () => poll())];
  await settle(app, clients);
  let isOver = false;
  let refused = 0;
  const talking = (async () => {
    for (let number = 0; !isOver; number += 1) {
      if (!(await app.say(`through it ${number}`))) refused += 1;
      await after(10);
    }
  })();
  // An error is thrown later, where `talking` is awaited. Until then it must not end the process.
  talking.catch(() => {});
  try {
    await after(300);
    await upset();
    await after(300);
  } finally {
    isOver = true;
    await talking;
  }
  // Nothing is published from here on, so only links and the timeouts of long-polls can bring events that are missing
  // now.
  await haveAll(app, clients, RECOVERY);
  check(clients.slice(0, 8).every(({ opened }) => opened > 1), 'there is a stream that never reconnected');
  return refused;
}

async function gripd_is_restarted_and_nobody_misses_anything(scene) {
  await through(scene, async () => {
    same(await scene.gripd.stop(), 0, "gripd's exit code after SIGTERM");
    await after(200);
    await scene.gripd.start();
  });
}

async function gripd_crashes_and_nobody_misses_anything(scene) {
  const refused = await through(scene, async () => {
    await scene.gripd.kill();
    await after(200);
    await scene.gripd.start();
  });
  check(refused > 0, 'no publish failed, so the scene proves nothing');
}

await run([
  the_middleware_recognizes_requests_from_gripd,
  the_signature_is_valid_for_its_key_and_issuer_only,
  responses_without_a_hold_pass_through,
  streams_get_text_and_bytes_until_they_are_closed,
  keep_alives_are_sent_to_silent_streams,
  long_polls_get_the_published_response,
  long_polls_time_out_with_the_response_of_the_application,
  a_prefix_keeps_applications_apart,
  an_instruct_may_be_json,
  next_links_without_a_hold_are_joined_to_one_response,
  next_links_are_requested_when_a_stream_is_silent,
  streams_that_missed_an_event_get_it_by_their_link,
  long_polls_that_missed_an_event_are_requested_again,
  a_long_poll_with_an_outdated_id_is_requested_again_at_once,
  events_published_out_of_order_come_in_order,
  the_same_event_published_twice_comes_once,
  clients_that_are_cut_off_miss_nothing,
  eventsource_is_closed_again_and_again_and_misses_nothing,
  gripd_is_restarted_and_nobody_misses_anything,
  gripd_crashes_and_nobody_misses_anything,
], stage);
