// The clients of the scenes in JavaScript. Three of them reconnect whenever they are cut off, and must receive every
// event: one for streams, one for long-polls, and one that uses the `eventsource` package of npm. The fourth uses the
// `ws` package of npm, and does not reconnect.

import { setTimeout as after } from 'node:timers/promises';

import { RETRY, ask, check, eventually, importPackage, whole } from './harness.mjs';

const { EventSource } = await importPackage('eventsource');
const { default: WebSocket } = await importPackage('ws');

// The base of StreamClient and PollClient. It sends its request again and again until it is closed.
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
        // The connection was cut or refused, so the client waits before it tries again.
        if (!this.isClosed) await after(RETRY);
      }
    }
  }
}

// A stream's client, which reconnects with Last-Event-ID whenever its connection ends.
export class StreamClient extends Client {
  // All text that the client has received, including text that is not part of an event.
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
      // An event that is still incomplete when its connection ends is dropped.
      unread = blocks.pop();
      this.events.push(...blocks.map(parsed).filter(Boolean));
    }
    this.ended += 1;
    await after(RETRY);
  }
}

// Returns the event in a block of a stream, or null for a block without data, such as a comment or a `retry`.
function parsed(block) {
  const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
  return fields.data === undefined ? null : { id: fields.id, text: fields.data };
}

// A client that polls. Each request names the last event that the client has, in the parameter `after`.
export class PollClient extends Client {
  async once() {
    const last = this.events.at(-1)?.id ?? 'v0';
    this.request = ask(this.address, `${this.path}?after=${last}`);
    const answer = await this.request.answer.then(whole);
    this.statuses.add(answer.status);
    this.events.push(...JSON.parse(answer.body));
  }
}

// An EventSource that records its events and its errors, and counts how often it was opened.
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

  // Waits until at least `count` events of a type have come, and returns their texts.
  async has(type, count) {
    await eventually(`${count} ${type} events have come`, () => this.texts(type).length >= count);
    return this.texts(type);
  }

  // Waits until the first connection ends, and returns the error that the EventSource reported.
  async end() {
    await eventually('the stream ends', () => this.errors.length > 0);
    return this.errors[0];
  }

  close() {
    this.source.close();
  }
}

// A WebSocket of the `ws` package that records its messages, its pongs, its errors and its end.
export class Talker {
  // The messages received: text messages as strings, binary messages as Buffers.
  messages = [];
  pongs = [];
  errors = [];
  // The code and the reason of the close. The library reports 1006 if no close frame came, and 1005 if it had no code.
  ended = null;
  // The status of the response to the handshake, if it was not 101.
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

  // Waits for the next `count` messages and returns them.
  async next(count) {
    const until = this.#read + count;
    const are = () => this.messages.length >= until;
    const isOver = () => this.refused ?? this.ended;
    await eventually(`${until} messages (${this.messages.length} at first)`, () => are() || isOver());
    check(are(), `only ${this.messages.length} of ${until} messages came, then the end: ${isOver()} ${this.errors}`);
    this.#read = until;
    return this.messages.slice(until - count, until);
  }

  async end() {
    await eventually('the WebSocket is closed', () => this.ended);
    return this.ended;
  }

  close() {
    this.socket.terminate();
  }
}
