// What scenes in JavaScript share: checks, waits with a deadline, gripd as a process with an origin behind it, a client
// on node's bare http.

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

// The longest that a single step may take; what works takes milliseconds.
export const DEADLINE = 10_000;
// A drain may take its ten seconds and the grace of a slow client.
const DRAIN = 30_000;
// The longest that a whole scene may take.
const SCENE = 100_000;
const LOOK_EVERY = 20;
// How soon clients come back, in milliseconds: the usual three seconds of an EventSource would only make this slow.
export const RETRY = 30;
// Below the ports that the system gives to outgoing connections: while gripd is away, none of them takes its port.
const PORTS = { from: 20_000, count: 10_000 };

export class Failed extends Error {}

export function check(condition, why) {
  if (!condition) throw new Failed(why);
}

export function same(got, expected, what) {
  const [is, must] = [JSON.stringify(got), JSON.stringify(expected)];
  check(is === must, `${what}: got ${String(is).slice(0, 300)}, expected ${String(must).slice(0, 300)}`);
}

// Asks until the answer is true, and returns it.
export async function eventually(what, probe, milliseconds = DEADLINE) {
  const until = performance.now() + milliseconds;
  for (;;) {
    const found = await within(milliseconds, what, probe());
    if (found) return found;
    check(performance.now() < until, `waited ${milliseconds} ms in vain: ${what}`);
    await after(LOOK_EVERY);
  }
}

// What a promise brings, or a failure if it brings nothing in time.
export async function within(milliseconds, what, promise) {
  const timer = new AbortController();
  const late = after(milliseconds, null, { signal: timer.signal }).then(
    () => { throw new Failed(`waited ${milliseconds} ms in vain: ${what}`); },
    () => {},
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

// Imports a package of npm. They are installed outside of the source tree, where imports do not look.
export function importPackage(name) {
  const { resolve: find } = createRequire(join(root, 'target/interop/node/package.json'));
  return import(pathToFileURL(find(name)));
}

// An address of this machine that nobody listens on.
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

// gripd as a process. It can be ended and started again, and is then found where it was.
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

  // Publishes and returns the receipt's items.
  async publish(...items) {
    const headers = { 'Content-Type': 'application/json', Accept: 'application/json' };
    const body = JSON.stringify({ items });
    const receipt = await exchange(this.control, '/publish', { method: 'POST', headers, body });
    same(receipt.status, 200, `the status of a publish (${receipt.body.trim()})`);
    return JSON.parse(receipt.body).items;
  }

  // Waits until a channel is held by so many connections.
  async waitFor(channel, connections) {
    await eventually(`${channel} is held by ${connections}`, async () => {
      const { body } = await exchange(this.control, `/channels/${encodeURIComponent(channel)}`);
      return JSON.parse(body).connections === connections;
    });
  }

  // Asks it to end, once: a second signal would cut the drain short.
  drain() {
    if (!this.run.draining) this.run.child.kill('SIGTERM');
    this.run.draining = true;
  }

  // Ends it and returns its exit code, or SIGKILL if it did not end in time.
  async stop() {
    if (!running.has(this)) return null;
    this.drain();
    const late = setTimeout(() => this.run.child.kill('SIGKILL'), DRAIN);
    const code = await this.run.ended;
    clearTimeout(late);
    running.delete(this);
    return code;
  }

  // Ends it as a crash would.
  async kill() {
    this.run.child.kill('SIGKILL');
    await this.run.ended;
    running.delete(this);
  }
}

const running = new Set();

// Listens on a free port and answers requests, and upgrades them, as listeners of node's http do.
async function serve(answer, upgrade) {
  const server = createServer(answer);
  if (upgrade) server.on('upgrade', upgrade);
  // A server forgets connections that were upgraded, but waits for them.
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

// Plays a scene with an origin that answers so and a gripd before it, and ends all that belongs to it: these two, and
// the clients that the scene gives to `open`. `upgrade` makes WebSockets of requests; the `options` are the target's.
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

// Sends a request on a connection of its own. Its `answer` is there once the head is; `cut` breaks it off.
export function ask(address, path, { method = 'GET', headers = {}, body } = {}) {
  const [host, port] = address.split(':');
  const sent = request({ host, port, path, method, headers, agent: false });
  const answer = new Promise((done, failed) => {
    sent.once('response', done);
    // Errors after the head are the reader's, who sees the answer close.
    sent.on('error', failed);
    sent.once('close', () => failed(new Error('the connection was closed without an answer')));
  });
  // Whoever cuts a request may not be waiting for it.
  answer.catch(() => {});
  sent.end(body);
  return { answer, cut: () => sent.destroy() };
}

// Sends a request and reads the whole answer.
export async function exchange(address, path, { milliseconds = DEADLINE, ...options } = {}) {
  const { answer, cut } = ask(address, path, options);
  try {
    return await within(milliseconds, `the answer to ${path}`, answer.then(whole));
  } finally {
    cut();
  }
}

// The status, the headers in lower case and the body of an answer; an error if it breaks off.
export async function whole(answer) {
  const chunks = [];
  for await (const chunk of answer) chunks.push(chunk);
  const { statusCode: status, statusMessage: reason, headers } = answer;
  return { status, reason, headers, body: Buffer.concat(chunks).toString() };
}

// Runs scenes one after the other, prints a line for each, and ends this process with what came of them.
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
    // What a library throws need not be an Error.
    const kind = error instanceof Failed ? '' : `${error.name ?? error.constructor.name}: `;
    return (kind + error.message + (error.cause ? `: ${error.cause.message}` : '')).replace(/\s+/g, ' ').slice(0, 600);
  }
}

process.once('SIGTERM', async () => {
  await Promise.allSettled([...running].map((gripd) => gripd.stop()));
  process.exit(1);
});

// An error that nobody waits for must not leave a gripd behind.
process.once('uncaughtException', async (error) => {
  console.error(error);
  await Promise.allSettled([...running].map((gripd) => gripd.kill()));
  process.exit(1);
});
