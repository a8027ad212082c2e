// The application of serve_grip_chat.mjs: a chat by WebSocket over HTTP, with Express and the middleware of serve-grip.

import { DEADLINE, eventually, importPackage, within } from './harness.mjs';

const { default: express } = await importPackage('express');
const { ServeGrip } = await importPackage('@fanoutio/serve-grip');
const { WebSocketMessageFormat } = await importPackage('@fanoutio/grip');

// The issuer and the key with which gripd signs requests by default.
const SIGNER = { iss: 'pushpin', key: 'changeme' };

// The backend. It knows of its clients only through the requests into which gripd turns their events.
export class ChatApp {
  banned = new Set();
  // The requests for the chat. Each has its meta, the id of its connection, and whether it was signed.
  requests = [];
  // The end of each user's connection: the code of the close, or 'lost' if there was no close.
  ended = new Map();
  // The function with which the application answers a close of the client.
  closeBack = (socket) => socket.close(socket.closeCode ?? 1000);

  constructor(control) {
    const { iss, key } = SIGNER;
    this.serveGrip = new ServeGrip({ grip: `http://${control}/?iss=${iss}&key=${key}` });
    this.publisher = this.serveGrip.getPublisher();
    this.express = express();
    this.express.use(this.serveGrip);
    this.express.post('/chat', (req, res, next) => this.#events(req, res).catch(next));
    this.express.get('/plain', (req, res) => res.json({ isSocket: req.grip.wsContext !== null }));
  }

  // Publishes a message to all connections that hold a channel.
  async publish(channel, content) {
    const published = this.publisher.publishFormats(channel, new WebSocketMessageFormat(content));
    await within(DEADLINE, 'the end of a publish', published);
  }

  // Closes all connections that hold a channel.
  async kick(channel, code) {
    const published = this.publisher.publishFormats(channel, new WebSocketMessageFormat(null, true, code));
    await within(DEADLINE, 'the end of a kick', published);
  }

  async hasLost(user) {
    await eventually(`the application knows that ${user} is gone`, () => this.ended.has(user));
    return this.ended.get(user);
  }

  async #events(req, res) {
    const { isSigned, wsContext: socket } = req.grip;
    if (!socket) {
      res.status(400).type('text').send('only WebSockets\n');
      return;
    }
    if (socket.isOpening()) {
      const { user } = req.query;
      if (this.banned.has(user)) {
        res.status(403).type('text').send('you are out\n');
        return;
      }
      this.#open(socket, user);
    }
    this.requests.push({ meta: { ...socket.meta }, id: socket.id, isSigned });
    while (socket.canRecv()) await this.#receive(socket);
    res.end();
  }

  #open(socket, user) {
    socket.accept();
    // The later requests of this connection have this value in their meta.
    socket.meta.user = user;
    for (const channel of ['room', `user-${user}`]) socket.subscribe(channel);
    socket.send(`welcome ${user}`);
  }

  async #receive(socket) {
    const { user } = socket.meta;
    let message;
    try {
      message = socket.recvRaw();
    } catch {
      // The library throws an error for the event DISCONNECT.
      this.ended.set(user, 'lost');
      return;
    }
    if (message === null) {
      this.ended.set(user, socket.closeCode);
      this.closeBack(socket);
    } else if (message instanceof Uint8Array) {
      socket.sendBinary(message);
    } else {
      await this.#hear(socket, user, message);
    }
  }

  async #hear(socket, user, message) {
    const [, command, text] = /^(\w+) ?(.*)$/s.exec(message);
    const commands = {
      say: () => this.publish('room', `${user}: ${text}`),
      echo: () => socket.send(text),
      leave: () => socket.unsubscribe(text),
      detach: () => socket.detach(),
      close: () => socket.close(Number(text)),
    };
    await commands[command]();
  }
}
