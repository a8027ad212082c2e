// The common parts of the scenes in JavaScript: checks, waits with a deadline, a gripd process with an origin, and a
// client that uses nothing but Node's `http`.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { createRequire } from 'node:module';
import { createServer as createSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as after } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const root = resolve(import.meta.dirname, '../..');
const gripdPath = resolve(root, process.env.GRIPD || 'target/release/gripd');

// The time limit of a single step, in milliseconds. A step that works takes only a few.
export const DEADLINE = 10_000;
// The time limit of gripd's end, in milliseconds. A drain may take ten seconds and then the grace of a slow client.
const DRAIN = 30_000;
// The time limit of a whole scene, in milliseconds.
const SCENE = 100_000;
const LOOK_EVERY = 20;
// The time after which a client reconnects, in milliseconds. The usual three seconds of an EventSource would make the
// scenes slow.
export const RETRY = 30;
// The ports for gripd. They are below those that the system gives to outgoing connections, so that no connection takes
// gripd's port while gripd is restarted.
const PORTS = { from: 20_000, count: 10_000 };

export class Failed extends Error {}

export function check(condition, why) {
  if (!condition) throw new Failed(why);
}

export function same(got, expected, what) {
  const [is, must] = [JSON.stringify(got), JSON.stringify(expected)];
  check(is === must, `${what}: got ${String(is).slice(0, 300)}, expected ${String(must).slice(0, 300)}`);
}

// Calls `probe` until its result is truthy, and returns the result. Fails when the time is over.
export async function eventually(what, probe, milliseconds = DEADLINE) {
  const until = performance.now() + milliseconds;
  for (;;) {
    const found = await within(milliseconds, what, probe());
    if (found) return found;
    check(performance.now() < until, `timed out after ${milliseconds} ms: ${what}`);
    await after(LOOK_EVERY);
  }
}

// Returns the value of a promise. Fails if the promise is not settled in time.
export async function within(milliseconds, what, promise) {
  const timer = new AbortController();
  const late = after(milliseconds, null, { signal: timer.signal }).then(
    () => { throw new Failed(`timed out after ${milliseconds} ms: ${what}`); },
    () => {},
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

// Imports a package of npm. The packages are in target/interop/node, where a plain `import` does not look for them.
export function importPackage(name) {
  const { resolve: find } = createRequire(join(root, 'target/interop/node/package.json'));
  return import(pathToFileURL(find(name)));
}

// Returns an address of this machine on which nothing listens.
export async function freeAddress() {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * PORTS.count);
    if (!taken.has(port) && (await canListen(port))) {
      taken.add(port);
      return `127.0.0.1:${port}`;
    }
  }
}

const taken = new Set();

function canListen(port) {
  return new Promise((done) => {
    const server = createSocket();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}

// A gripd process. It can be ended and started again, and then has the same addresses.
class Gripd {
  constructor(route, client, control, config) {
    this.client = client;
    this.control = control;
    this.command = ['--config', config, '--route', route, '--listen', client, '--control', control];
  }

  async start() {
    const child = spawn(gripdPath, this.command, { stdio: ['ignore', 'ignore', 'pipe'] });
    const log = [];
    const run = { child, log, broken: null, draining: false };
    child.on('error', (error) => { run.broken = error; });
    run.ended = new Promise((done) => { child.once('close', (code, signal) => done(signal ?? code)); });
    createInterface(child.stderr).on('line', (line) => log.push(line));
    this.run = run;
    running.add(this);
    await eventually('gripd starts', () => {
      const isGone = run.broken || child.exitCode !== null || child.signalCode !== null;
      check(!isGone, `gripd did not start: ${run.broken ?? log.slice(-5).join(' ')}`);
      return log.some((line) => /started .*clients=\S+ control=\S+/.test(line));
    });
  }

  // Publishes items, and returns the outcomes of the items from the receipt.
  async publish(...items) {
    const headers = { 'Content-Type': 'application/json', Accept: 'application/json' };
    const body = JSON.stringify({ items });
    const receipt = await exchange(this.control, '/publish', { method: 'POST', headers, body });
    same(receipt.status, 200, `the status of a publish (${receipt.body.trim()})`);
    return JSON.parse(receipt.body).items;
  }

  // Waits until exactly this number of connections holds a channel.
  async waitFor(channel, connections) {
    await eventually(`${channel} is held by ${connections} connections`, async () => {
      const { body } = await exchange(this.control, `/channels/${encodeURIComponent(channel)}`);
      return JSON.parse(body).connections === connections;
    });
  }

  // Asks gripd to end by a signal. It is sent only once, because a second signal would cut the drain short.
  drain() {
    if (!this.run.draining) this.run.child.kill('SIGTERM');
    this.run.draining = true;
  }

  // Ends gripd and returns its exit code, or 'SIGKILL' if it had to be killed. Returns null if it is not running.
  async stop() {
    if (!running.has(this)) return null;
    this.drain();
    const late = setTimeout(() => this.run.child.kill('SIGKILL'), DRAIN);
    const code = await this.run.ended;
    clearTimeout(late);
    running.delete(this);
    return code;
  }

  // Kills gripd, which then has no time for a drain, as in a crash.
  async kill() {
    this.run.child.kill('SIGKILL');
    await this.run.ended;
    running.delete(this);
  }
}

const running = new Set();

// Starts a server on a free port. `answer` and `upgrade` are listeners of Node's `http` for requests and for upgrades.
async function serve(answer, upgrade) {
  const server = createServer(answer);
  if (upgrade) server.on('upgrade', upgrade);
  // `server.close` waits for upgraded connections as well, but does not close them. So this set records all of them.
  const sockets = new Set();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = () => {
    for (const socket of sockets) socket.destroy();
    return new Promise((done) => { server.close(done); });
  };
  return { address: `127.0.0.1:${server.address().port}`, stop };
}

// Writes a configuration into a directory of its own.
async function configFile(text) {
  const directory = await mkdtemp(join(tmpdir(), 'gripd-'));
  const path = join(directory, 'gripd.toml');
  await writeFile(path, text);
  return { path, remove: () => rm(directory, { recursive: true, force: true }) };
}

// Plays a scene with an origin and a gripd in front of it. Afterwards ends both, and the clients that the scene has
// passed to `open`. `answer` and `upgrade` are the origin's listeners for requests and for upgrades to WebSockets,
// `control` is the address of the control port, `options` are the options of the route's target, and `config` is the
// text of a configuration.
export async function behindGripd(answer, play, { control, upgrade, options = '', config = '' } = {}) {
  const origin = await serve(answer, upgrade);
  const file = await configFile(config);
  const addresses = [await freeAddress(), control ?? (await freeAddress())];
  const gripd = new Gripd(`* ${origin.address}${options}`, ...addresses, file.path);
  const clients = [];
  const open = (client) => {
    clients.push(client);
    return client;
  };
  let code;
  try {
    await gripd.start();
    await within(SCENE, 'the scene ends', play({ gripd, open, direct: origin.address }));
  } finally {
    await Promise.all(clients.map((client) => client.close()));
    code = await gripd.stop();
    await origin.stop();
    await file.remove();
  }
  same(code, 0, "gripd's exit code after SIGTERM");
}

// Sends a request on a connection of its own. The promise `answer` is fulfilled with the response when the head has
// come. `cut` breaks the connection off.
export function ask(address, path, { method = 'GET', headers = {}, body } = {}) {
  const [host, port] = address.split(':');
  const sent = request({ host, port, path, method, headers, agent: false });
  const answer = new Promise((done, failed) => {
    sent.once('response', done);
    // An error after the head no longer changes `answer`. Whoever reads the body sees that the response was closed.
    sent.on('error', failed);
    sent.once('close', () => failed(new Error('the connection was closed without a response')));
  });
  // A request may be cut while nothing waits for `answer`, and a rejection that nothing handles would end the process.
  answer.catch(() => {});
  sent.end(body);
  return { answer, cut: () => sent.destroy() };
}

// Sends a request and reads the whole response.
export async function exchange(address, path, { milliseconds = DEADLINE, ...options } = {}) {
  const { answer, cut } = ask(address, path, options);
  try {
    return await within(milliseconds, `the response to ${path} is complete`, answer.then(whole));
  } finally {
    cut();
  }
}

// Reads a response to its end. Returns its status, its reason, its headers with names in lower case, and its body.
// Fails if the response breaks off.
export async function whole(answer) {
  const chunks = [];
  for await (const chunk of answer) chunks.push(chunk);
  const { statusCode: status, statusMessage: reason, headers } = answer;
  return { status, reason, headers, body: Buffer.concat(chunks).toString() };
}

// Runs scenes one after the other and prints a line for each. Then ends this process, with exit code 1 if a scene
// failed and otherwise with 0.
export async function run(scenes, stage) {
  let failures = 0;
  for (const scene of scenes) {
    const why = await outcome(scene, stage);
    if (why !== null) failures += 1;
    console.log(why === null ? `ok ${scene.name}` : `FAILED ${scene.name}: ${why}`);
  }
  process.exit(failures ? 1 : 0);
}

async function outcome(scene, stage) {
  try {
    await stage(scene);
    return null;
  } catch (error) {
    // A library may throw something other than an Error.
    const kind = error instanceof Failed ? '' : `${error.name ?? error.constructor.name}: `;
    return (kind + error.message + (error.cause ? `: ${error.cause.message}` : '')).replace(/\s+/g, ' ').slice(0, 600);
  }
}

process.once('SIGTERM', async () => {
  await Promise.allSettled([...running].map((gripd) => gripd.stop()));
  process.exit(1);
});

// If an error is not caught anywhere, gripd must not go on running.
process.once('uncaughtException', async (error) => {
  console.error(error);
  await Promise.allSettled([...running].map((gripd) => gripd.kill()));
  process.exit(1);
});
