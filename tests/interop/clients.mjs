// Clients that want every event: one on streams, one on long-polls, and the `eventsource` package of npm. All of them
// come back whenever they are cut off. And one that does not: the `ws` package of npm.

import { setTimeout as after } from 'node:timers/promises';

import { RETRY, ask, check, eventually, importPackage, whole } from './harness.mjs';

const { EventSource } = await importPackage('eventsource');
const { default: WebSocket } = await importPackage('ws');

// What the first two have in common: they ask again and again until they are closed.
class Client {
  events = [];
  statuses = new Set();

  constructor(address, path) {
    this.address = address;
    this.path = path;
  }

  start() {
    this.finished = this.#run();
    return this;
  }

  cut() {
    this.request.cut();
  }

  close() {
    this.isClosed = true;
    this.cut();
    return this.finished;
  }

  async #run() {
    while (!this.isClosed) {
      try {
        await this.once();
      } catch {
        // Cut off or refused: then a while later.
        if (!this.isClosed) await after(RETRY);
      }
    }
  }
}

// A stream's client, which reconnects with Last-Event-ID whenever its connection ends.
export class StreamClient extends Client {
  // All that it ever got, whether it is events or not.
  bytes = '';
  opened = 0;
  ended = 0;

  async once() {
    const headers = this.events.length ? { 'Last-Event-ID': this.events.at(-1).id } : {};
    this.request = ask(this.address, this.path, { headers });
    this.head = await this.request.answer;
    this.statuses.add(this.head.statusCode);
    this.opened += 1;
    this.head.setEncoding('utf8');
    let unread = '';
    for await (const text of this.head) {
      this.bytes += text;
      const blocks = (unread + text).split('\n\n');
      // An event that is not whole is forgotten with its connection.
      unread = blocks.pop();
      this.events.push(...blocks.map(parsed).filter(Boolean));
    }
    this.ended += 1;
    await after(RETRY);
  }
}

// An event of a stream; null for a comment or a mere `retry`.
function parsed(block) {
  const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
  return fields.data === undefined ? null : { id: fields.id, text: fields.data };
}

// A client that polls, and tells by `after` the last event it has.
export class PollClient extends Client {
  async once() {
    const last = this.events.at(-1)?.id ?? 'v0';
    this.request = ask(this.address, `${this.path}?after=${last}`);
    const answer = await this.request.answer.then(whole);
    this.statuses.add(answer.status);
    this.events.push(...JSON.parse(answer.body));
  }
}

// An EventSource that notes all that happens to it.
export class Listener {
  events = [];
  errors = [];
  opened = 0;

  constructor(address, path) {
    this.source = new EventSource(`http://${address}${path}`);
    for (const type of ['hello', 'message', 'goodbye']) {
      this.source.addEventListener(type, (e) => this.events.push({ type, id: e.lastEventId, text: e.data }));
    }
    this.source.addEventListener('open', () => { this.opened += 1; });
    this.source.addEventListener('error', (e) => {
      this.errors.push({ code: e.code, state: this.source.readyState });
    });
  }

  texts(type) {
    return this.events.filter((event) => event.type === type).map((event) => event.text);
  }

  // Waits until it has so many events of a type.
  async has(type, count) {
    await eventually(`${count} ${type} events`, () => this.texts(type).length >= count);
    return this.texts(type);
  }

  // Waits until its connection ends, and returns what it was told.
  async end() {
    await eventually('the stream ends', () => this.errors.length > 0);
    return this.errors[0];
  }

  close() {
    this.source.close();
  }
}

// A WebSocket of the `ws` package that notes all that happens to it.
export class Talker {
  // Texts as strings, other messages as Buffers.
  messages = [];
  pongs = [];
  errors = [];
  // The code and the reason of the end: 1006 is the library's for an end without a Close, 1005 for one without a code.
  ended = null;
  // The status of an answer other than 101.
  refused = null;
  #read = 0;

  constructor(address, path, { protocols = [], ...options } = {}) {
    this.socket = new WebSocket(`ws://${address}${path}`, protocols, { perMessageDeflate: false, ...options });
    this.socket.on('message', (data, isBinary) => this.messages.push(isBinary ? data : data.toString()));
    this.socket.on('pong', (data) => this.pongs.push(data.toString()));
    this.socket.on('close', (code, reason) => { this.ended = [code, reason.toString()]; });
    this.socket.on('unexpected-response', (_, response) => {
      this.refused = response.statusCode;
      this.socket.terminate();
    });
    this.socket.on('error', (error) => this.errors.push(error.message));
  }

  say(data) {
    this.socket.send(data);
  }

  // The next messages that were not read yet, once they are there.
  async next(count) {
    const until = this.#read + count;
    const are = () => this.messages.length >= until;
    const isOver = () => this.refused ?? this.ended;
    await eventually(`${until} messages, not ${this.messages.length}`, () => are() || isOver());
    check(are(), `only ${this.messages.length} of ${until} messages came, then ${isOver()} ${this.errors}`);
    this.#read = until;
    return this.messages.slice(until - count, until);
  }

  async end() {
    await eventually('the WebSocket ends', () => this.ended);
    return this.ended;
  }

  close() {
    this.socket.terminate();
  }
}
