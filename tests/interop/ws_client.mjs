// The `ws` package of npm on both sides of gripd: as the clients, and as the origin of WebSockets that gripd relays.

import { randomBytes } from 'node:crypto';

import { Talker } from './clients.mjs';
import { behindGripd, check, eventually, importPackage, run, same } from './harness.mjs';

const { default: WebSocket } = await importPackage('ws');

const PEOPLE = ['alice', 'bob', 'carol'];
const SUBPROTOCOL = 'chat.v1';

const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));
const message = (channel, content, more) => ({ channel, formats: { 'ws-message': { content } }, ...more });
const bytes = (channel, data) => ({ channel, formats: { 'ws-message': { 'content-bin': data.toString('base64') } } });
const control = (type, fields) => `c:${JSON.stringify({ type, ...fields })}`;

// An origin that subscribes each client to `room` and to a channel of its own. It publishes to `room` what clients
// say, and echoes binary messages.
class Chat {
  banned = new Set();
  // The code and the reason of the close of each user's connection, as the origin saw it.
  ended = new Map();
  connections = new Map();
  // The header Sec-WebSocket-Extensions of each handshake that gripd sent to the origin.
  offers = [];
  published = Promise.resolve();

  constructor() {
    this.server = new WebSocket.WebSocketServer({
      noServer: true,
      perMessageDeflate: true,
      handleProtocols: (offered) => offered.has(SUBPROTOCOL) && SUBPROTOCOL,
    });
    // `ws` knows no extension but its own, so the origin adds the extension `grip` to the response itself.
    this.server.on('headers', (headers) => headers.push('Sec-WebSocket-Extensions: grip; message-prefix="m:"'));
  }

  upgrade(request, socket, head) {
    this.offers.push(request.headers['sec-websocket-extensions']);
    const user = new URL(request.url, 'http://origin').searchParams.get('user');
    if (this.banned.has(user)) {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nyou are out\n');
      return;
    }
    this.server.handleUpgrade(request, socket, head, (connection) => this.#talk(user, connection));
  }

  #talk(user, connection) {
    this.connections.set(user, connection);
    connection.on('message', (data, isBinary) => this.#hear(user, connection, data, isBinary));
    connection.on('close', (code, reason) => this.ended.set(user, [code, reason.toString()]));
    // After an error the connection is closed, which is recorded above.
    connection.on('error', () => {});
    for (const channel of ['room', `user-${user}`]) connection.send(control('subscribe', { channel }));
    connection.send(`m:welcome ${user}`);
  }

  #hear(user, connection, data, isBinary) {
    if (isBinary) {
      connection.send(Buffer.concat([Buffer.from('m:'), data]));
      return;
    }
    const [, command, text] = /^(\w+) ?(.*)$/s.exec(data.toString());
    const [code, reason = ''] = text.split(' ');
    const commands = {
      say: () => this.#publish(message('room', `${user}: ${text}`)),
      echo: () => connection.send(`m:${text}`),
      close: () => connection.close(Number(code), reason),
      break: () => connection.terminate(),
    };
    commands[command]();
  }

  // Publishes one item after the other, because requests on several connections could overtake each other.
  #publish(item) {
    this.published = this.published.then(() => this.gripd.publish(item));
    // An error is thrown later, where `published` is awaited. Until then it must not end the process.
    this.published.catch(() => {});
  }

  async hasLost(user) {
    await eventually(`the origin knows that ${user} is gone`, () => this.ended.has(user));
    return this.ended.get(user);
  }
}

// Runs a scene with a gripd and an origin of its own.
async function stage(scene) {
  const chat = new Chat();
  const config = configs.get(scene) ?? '';
  await behindGripd((_, response) => response.writeHead(404).end(), ({ gripd, open }) => {
    chat.gripd = gripd;
    const connect = (user, options) => open(new Talker(gripd.client, `/chat?user=${user}`, options));
    const join = async (user, options) => {
      const talker = connect(user, options);
      same(await talker.next(1), [`welcome ${user}`], `the first message to ${user}`);
      return talker;
    };
    const joinAll = () => Promise.all(PEOPLE.map((user) => join(user)));
    return scene({ chat, gripd, connect, join, joinAll }).finally(() => chat.published);
  }, { config, upgrade: (...request) => chat.upgrade(...request) });
}

async function echo(talker, text) {
  talker.say(`echo ${text}`);
  const [heard] = await talker.next(1);
  check(heard === text, `the echo of ${text.slice(0, 50)} is ${String(heard).slice(0, 50)}`);
}

async function echoBytes(talker, data) {
  talker.say(data);
  const [heard] = await talker.next(1);
  check(Buffer.isBuffer(heard) && heard.equals(data), `the echo of ${data.length} bytes differs from what was sent`);
}

async function allHear(talkers, text) {
  for (const talker of talkers) same(await talker.next(1), [text], 'the message to everyone');
}

async function ws_chat_of_three({ gripd, joinAll }) {
  const talkers = await joinAll();
  const rounds = times(20, (number) => `žluť ${number}`);
  for (const text of rounds) for (const talker of talkers) talker.say(`say ${text}`);
  const [heard, ...others] = await Promise.all(talkers.map((talker) => talker.next(rounds.length * PEOPLE.length)));
  for (const user of PEOPLE) {
    same(
      heard.filter((text) => text.startsWith(user)), rounds.map((text) => `${user}: ${text}`),
      `the messages of ${user}`,
    );
  }
  for (const other of others) same(other, heard, 'the messages that another client got');
  await gripd.publish(...PEOPLE.map((user) => message(`user-${user}`, `for ${user}`)));
  for (const [index, user] of PEOPLE.entries()) await allHear([talkers[index]], `for ${user}`);
}

async function ws_burst_in_one_publish_is_in_order({ gripd, joinAll }) {
  const talkers = await joinAll();
  const texts = times(200, (number) => `žluť ${number}`);
  await gripd.publish(...texts.map((text) => message('room', text)));
  for (const talker of talkers) same(await talker.next(texts.length), texts, 'the messages of the burst');
}

async function ws_kick_with_a_code({ chat, gripd, connect, joinAll }) {
  const [alice, bob, carol] = await joinAll();
  chat.banned.add('bob');
  await gripd.publish(message('room', 'before'));
  const [receipt] = await gripd.publish({ channel: 'user-bob', action: 'close', code: 4001, reason: 'out' });
  same([receipt.closed, receipt.cut], [1, 0], 'closed and cut in the receipt');
  same(await bob.end(), [4001, 'out'], 'the close that bob saw');
  same(await bob.next(1), ['before'], 'the message to bob before the close');
  await allHear([alice, carol], 'before');
  await chat.hasLost('bob');
  const again = connect('bob');
  await again.end();
  same(again.refused, 403, 'the status of the response when bob reconnects');
  alice.say('say after');
  await allHear([alice, carol], 'alice: after');
  same([...chat.ended.keys()], ['bob'], 'the users whose end the origin saw');
}

async function ws_pings_get_their_pongs({ chat, join }) {
  const alice = await join('alice');
  const asked = ['', 'hello', 'x'.repeat(125)];
  for (const content of asked) alice.socket.ping(content);
  await eventually('all pongs have come', () => alice.pongs.length === asked.length);
  same(alice.pongs, asked, 'the contents of the pongs');
  const connection = chat.connections.get('alice');
  const pongs = [];
  connection.on('pong', (data) => pongs.push(data.toString()));
  connection.ping('from the origin');
  await eventually("the client's pong has come to the origin", () => pongs.length === 1);
  same(pongs, ['from the origin'], "the content of the client's pong");
}

async function ws_ping_between_fragments({ join }) {
  const alice = await join('alice');
  alice.socket.send('echo in ', { fin: false });
  alice.socket.ping('between');
  alice.socket.send('two parts', { fin: true });
  same(await alice.next(1), ['in two parts'], 'the echo');
  await eventually('the pong has come', () => alice.pongs.length === 1);
}

async function ws_big_binary_both_ways({ gripd, join }) {
  const [alice, bob] = [await join('alice'), await join('bob')];
  await echoBytes(alice, randomBytes(1_000_000));
  await echoBytes(alice, Buffer.alloc(0));
  const data = randomBytes(700_000);
  await gripd.publish(bytes('room', data));
  for (const talker of [alice, bob]) {
    const [heard] = await talker.next(1);
    check(Buffer.isBuffer(heard) && heard.equals(data), 'the received bytes differ from the published ones');
  }
}

async function ws_subprotocol_is_the_origins_choice({ join }) {
  const alice = await join('alice', { protocols: ['chat.v2', SUBPROTOCOL] });
  same(alice.socket.protocol, SUBPROTOCOL, 'the subprotocol');
  const bob = await join('bob');
  same(bob.socket.protocol, '', 'the subprotocol of a client that offers none');
}

async function ws_no_compression_unless_configured({ chat, join }) {
  const alice = await join('alice', { perMessageDeflate: true });
  same(alice.socket.extensions, '', 'the extensions');
  same(chat.offers, ['grip'], 'the extensions that gripd offers to the origin');
  await echo(alice, 'x'.repeat(100_000));
}

async function ws_compressed_both_ways({ chat, gripd, join }) {
  const offers = [
    {},
    { serverNoContextTakeover: true, clientNoContextTakeover: true },
    { clientMaxWindowBits: 10 },
    { serverMaxWindowBits: 15 },
  ];
  const talkers = [];
  for (const [number, offer] of offers.entries()) {
    // With the default threshold short messages would not be compressed.
    const talker = await join(`user${number}`, { perMessageDeflate: { threshold: 0, ...offer } });
    same(talker.socket.extensions, 'permessage-deflate', 'the extensions');
    for (const text of ['short', '', 'ž'.repeat(50_000), 'again', 'again']) await echo(talker, text);
    for (const size of [0, 1000, 100_000]) await echoBytes(talker, randomBytes(size));
    talkers.push(talker);
  }
  same([...new Set(chat.offers)], ['grip'], 'the extensions that gripd offers to the origin');
  const plain = await join('plain');
  same(plain.socket.extensions, '', 'the extensions of a client that offers none');
  const texts = times(100, (number) => `${number} ${'x'.repeat(number * 20)}`);
  await gripd.publish(...texts.map((text) => message('room', text)));
  for (const talker of [...talkers, plain]) same(await talker.next(texts.length), texts, 'the published texts');
}

async function ws_close_codes_of_clients_reach_the_origin({ chat, join }) {
  for (const [code, reason] of [[1000, ''], [1001, 'going'], [3000, 'žluť'], [4999, 'x'.repeat(123)]]) {
    const user = `user${code}`;
    const talker = await join(user);
    talker.socket.close(code, reason);
    same(await chat.hasLost(user), [code, reason], 'the close that the origin saw');
    same((await talker.end())[0], code, 'the code that the client got back');
  }
}

async function ws_close_codes_of_the_origin_reach_clients({ chat, join }) {
  for (const [code, reason] of [[1000, ''], [1001, 'going'], [3000, 'žluť'], [4999, 'x'.repeat(123)]]) {
    const user = `user${code}`;
    const talker = await join(user);
    talker.say(`close ${code} ${reason}`);
    same(await talker.end(), [code, reason], 'the close that the client saw');
    same((await chat.hasLost(user))[0], code, 'the code that the origin got back');
  }
}

async function ws_origin_learns_of_a_lost_client({ chat, gripd, joinAll }) {
  const [alice, bob] = await joinAll();
  bob.socket.terminate();
  same((await chat.hasLost('bob'))[0], 1006, 'the close that the origin saw');
  await gripd.waitFor('user-bob', 0);
  await echo(alice, 'still here');
}

async function ws_lost_origin_ends_only_its_client({ gripd, joinAll }) {
  const [alice, bob] = await joinAll();
  bob.say('break');
  const [code] = await bob.end();
  check(code === 1011 || code === 1006, `bob was closed with the code ${code}`);
  await gripd.waitFor('user-bob', 0);
  await echo(alice, 'still here');
}

async function ws_drain_closes_with_1001({ chat, gripd, joinAll }) {
  const talkers = await joinAll();
  await gripd.publish(message('room', 'last'));
  gripd.drain();
  for (const [index, talker] of talkers.entries()) {
    same((await talker.end())[0], 1001, 'the code of the close');
    same(await talker.next(1), ['last'], 'the message before the close');
    await chat.hasLost(PEOPLE[index]);
  }
}

// The configurations of gripd for those scenes that need one.
const configs = new Map([
  [ws_compressed_both_ways, '[websocket]\ncompression = true\n'],
  [ws_drain_closes_with_1001, 'drain = 1\n'],
]);

await run([
  ws_chat_of_three,
  ws_burst_in_one_publish_is_in_order,
  ws_kick_with_a_code,
  ws_pings_get_their_pongs,
  ws_ping_between_fragments,
  ws_big_binary_both_ways,
  ws_subprotocol_is_the_origins_choice,
  ws_no_compression_unless_configured,
  ws_compressed_both_ways,
  ws_close_codes_of_clients_reach_the_origin,
  ws_close_codes_of_the_origin_reach_clients,
  ws_origin_learns_of_a_lost_client,
  ws_lost_origin_ends_only_its_client,
  ws_drain_closes_with_1001,
], stage);
