// A chat with Express and Fanout's `serve-grip` behind gripd, which turns the events of WebSockets into requests
// (WebSocket over HTTP). The clients are WebSockets of the `ws` package.

import { Talker } from './clients.mjs';
import { behindGripd, check, exchange, freeAddress, run, same } from './harness.mjs';
import { ChatApp } from './serve_grip_chat_app.mjs';

const PEOPLE = ['alice', 'bob', 'carol'];

const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));

// Runs a scene with a gripd and an application of its own.
async function stage(scene) {
  const control = await freeAddress();
  const app = new ChatApp(control);
  await behindGripd(app.express, ({ gripd, open }) => {
    const connect = (user, options) => open(new Talker(gripd.client, `/chat?user=${user}`, options));
    const join = async (user) => {
      const talker = connect(user);
      same(await talker.next(1), [`welcome ${user}`], `the first message to ${user}`);
      return talker;
    };
    const joinAll = () => Promise.all(PEOPLE.map((user) => join(user)));
    return scene({ app, gripd, connect, join, joinAll });
  }, { control, options: ',over_http' });
}

async function allHear(talkers, text) {
  for (const talker of talkers) same(await talker.next(1), [text], 'the message to everyone');
}

async function othersGoOn(talkers) {
  talkers[0].say('say still here');
  await allHear(talkers, 'alice: still here');
}

async function isRefused(connect, user) {
  const again = connect(user);
  await again.end();
  same(again.refused, 403, `the status of the response when ${user} reconnects`);
}

async function serve_grip_chat_of_three({ app, joinAll }) {
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
  for (const [index, user] of PEOPLE.entries()) {
    await app.publish(`user-${user}`, `for ${user}`);
    await allHear([talkers[index]], `for ${user}`);
  }
}

async function serve_grip_chat_keeps_meta_and_connection_id({ app, joinAll }) {
  const talkers = await joinAll();
  for (const talker of [...talkers, ...talkers]) {
    talker.say('echo hello');
    await allHear([talker], 'hello');
  }
  check(app.requests.every(({ isSigned }) => isSigned), 'a request was not signed');
  for (const user of PEOPLE) {
    const ids = app.requests.filter(({ meta }) => meta.user === user).map(({ id }) => id);
    same([ids.length, new Set(ids).size], [3, 1], `the number of requests and of connections of ${user}`);
  }
  same(new Set(app.requests.map(({ id }) => id)).size, PEOPLE.length, 'the number of connections of all users');
}

async function serve_grip_chat_delivers_bytes_and_empty_messages({ app, join }) {
  const alice = await join('alice');
  for (const data of [Buffer.from(times(2560, (number) => number % 256)), Buffer.alloc(0), Buffer.from('m:c:')]) {
    alice.say(data);
    const [heard] = await alice.next(1);
    check(Buffer.isBuffer(heard) && heard.equals(data), `the echo of ${data.length} bytes differs from what was sent`);
  }
  alice.say('echo ');
  await allHear([alice], '');
  await app.publish('room', Buffer.from([0, 255, 128]));
  same(await alice.next(1), [Buffer.from([0, 255, 128])], 'the published bytes');
}

async function serve_grip_chat_kick_by_the_library({ app, connect, joinAll }) {
  const [alice, bob, carol] = await joinAll();
  app.banned.add('bob');
  await app.publish('user-bob', 'goodbye');
  await app.kick('user-bob', 4001);
  same((await bob.end())[0], 4001, 'the code of the close that bob saw');
  same(await bob.next(1), ['goodbye'], 'the message to bob before the close');
  await app.hasLost('bob');
  await isRefused(connect, 'bob');
  await othersGoOn([alice, carol]);
  same([...app.ended.keys()], ['bob'], 'the users whose end the application saw');
}

async function serve_grip_chat_kick_by_an_item({ app, gripd, connect, joinAll }) {
  const [alice, bob, carol] = await joinAll();
  app.banned.add('bob');
  const [receipt] = await gripd.publish({ channel: 'user-bob', action: 'close', code: 4001, reason: 'out' });
  same([receipt.closed, receipt.cut], [1, 0], 'closed and cut in the receipt');
  same(await bob.end(), [4001, 'out'], 'the close that bob saw');
  await app.hasLost('bob');
  await isRefused(connect, 'bob');
  await othersGoOn([alice, carol]);
}

async function serve_grip_chat_leaves_a_channel({ app, gripd, join }) {
  const alice = await join('alice');
  alice.say('leave room');
  // gripd handles one response after the other, so alice has left the room when this echo comes.
  alice.say('echo left');
  await allHear([alice], 'left');
  await gripd.waitFor('room', 0);
  await app.publish('room', 'to nobody');
  await app.publish('user-alice', 'to alice');
  await allHear([alice], 'to alice');
}

async function serve_grip_chat_detached_client_still_gets_items({ app, join }) {
  const alice = await join('alice');
  alice.say('detach');
  await app.hasLost('alice');
  const before = app.requests.length;
  alice.say('say to nobody');
  await app.publish('room', 'still there');
  await allHear([alice], 'still there');
  same(app.requests.length, before, 'the number of requests after the client was detached');
  alice.socket.close(4000);
  const [code] = await alice.end();
  check(code === 4000 || code === 1000, `the connection was closed with the code ${code}`);
}

async function serve_grip_chat_close_by_the_client({ app, joinAll }) {
  const [alice, bob, carol] = await joinAll();
  bob.socket.close(4000);
  same((await bob.end())[0], 4000, 'the code that the client got back');
  same(await app.hasLost('bob'), 4000, 'the code that the application got');
  await othersGoOn([alice, carol]);
}

async function serve_grip_chat_close_without_a_code_as_in_the_readme_of_the_library({ app, join }) {
  // Without an argument the library writes the code 0, which a close frame must not have.
  app.closeBack = (socket) => socket.close();
  const bob = await join('bob');
  bob.socket.close(1000);
  const [code] = await bob.end();
  check(code === 1000 || code === 1005, `bob was closed with the code ${code} (${bob.errors})`);
  same(bob.errors, [], 'the errors that bob saw');
}

async function serve_grip_chat_close_by_the_application({ join }) {
  for (const code of [1000, 1001, 4999]) {
    const bob = await join('bob');
    bob.say(`close ${code}`);
    same((await bob.end())[0], code, 'the code of the close that bob saw');
  }
}

async function serve_grip_chat_application_learns_of_a_lost_client({ app, gripd, joinAll }) {
  const [alice, bob, carol] = await joinAll();
  bob.socket.terminate();
  same(await app.hasLost('bob'), 'lost', 'the end of bob that the application saw');
  await gripd.waitFor('user-bob', 0);
  await othersGoOn([alice, carol]);
}

async function serve_grip_chat_refuses_forged_events({ app, gripd }) {
  const headers = { 'Content-Type': 'application/websocket-events', 'Connection-Id': 'forged', 'Meta-User': 'root' };
  const forged = await exchange(gripd.client, '/chat', { method: 'POST', headers, body: 'TEXT 9\r\nsay hello\r\n' });
  same(forged.status, 403, 'the status of a forged request');
  same(app.requests, [], 'the requests that the application got');
  const plain = await exchange(gripd.client, '/plain');
  same([plain.status, plain.body], [200, '{"isSocket":false}'], 'a plain request on the same route');
}

async function serve_grip_chat_takes_no_meta_from_clients({ app, connect }) {
  const headers = { 'Meta-Role': 'root', 'Meta-User': 'root', 'Connection-Id': 'forged' };
  const alice = connect('alice', { headers });
  same(await alice.next(1), ['welcome alice'], 'the first message');
  alice.say('echo hello');
  await allHear([alice], 'hello');
  same(app.requests.map(({ meta }) => meta), [{ user: 'alice' }, { user: 'alice' }], 'the meta of the requests');
  check(app.requests.every(({ id }) => id !== 'forged'), 'the application got the Connection-Id of the client');
}

await run([
  serve_grip_chat_of_three,
  serve_grip_chat_keeps_meta_and_connection_id,
  serve_grip_chat_delivers_bytes_and_empty_messages,
  serve_grip_chat_kick_by_the_library,
  serve_grip_chat_kick_by_an_item,
  serve_grip_chat_leaves_a_channel,
  serve_grip_chat_detached_client_still_gets_items,
  serve_grip_chat_close_by_the_client,
  serve_grip_chat_close_without_a_code_as_in_the_readme_of_the_library,
  serve_grip_chat_close_by_the_application,
  serve_grip_chat_application_learns_of_a_lost_client,
  serve_grip_chat_refuses_forged_events,
  serve_grip_chat_takes_no_meta_from_clients,
], stage);
