// The application of serve_grip.mjs: Express, the middleware of serve-grip, and a feed of events in memory.

import { DEADLINE, RETRY, importPackage, within } from './harness.mjs';

const { default: express } = await importPackage('express');
const { ServeGrip } = await importPackage('@fanoutio/serve-grip');
const {
  Channel, HttpResponseFormat, HttpStreamFormat, PublishException,
} = await importPackage('@fanoutio/grip');

// What gripd signs requests with unless it is told otherwise.
export const SIGNER = { iss: 'pushpin', key: 'changeme' };
// When gripd asks for what a stream may have missed, in seconds. Long-polls take five at least.
const LINK_SECONDS = 2;
export const POLL_SECONDS = 5;

// All events that ever happened, in the memory of the application.
export class Feed {
  events = [];

  // Returns the event with the id of the one before it.
  add(text) {
    const { lastId: prevId } = this;
    const event = { id: `v${this.events.length + 1}`, text };
    this.events.push(event);
    return { ...event, prevId };
  }

  // Before the first event it is v0: a channel without an id would not be watched for gaps.
  get lastId() {
    return this.events.at(-1)?.id ?? 'v0';
  }

  // What happened after an id; everything for somebody who knows none.
  after(id) {
    return this.events.slice(id ? Number(id.slice(1)) : 0);
  }
}

export const sse = ({ id, text }) => `id: ${id}\ndata: ${text}\n\n`;

// The backend: Express with the middleware of serve-grip, a feed as a stream and as long-polls, and what scenes add.
export class App {
  requests = [];
  feed = new Feed();
  linkSeconds = LINK_SECONDS;
  pollSeconds = POLL_SECONDS;

  constructor(control) {
    const { iss, key } = SIGNER;
    this.control = `http://${control}/`;
    // With an issuer and a key the publisher sends a token as well, and the key also checks Grip-Sig.
    this.serveGrip = new ServeGrip({ grip: `${this.control}?iss=${iss}&key=${key}` });
    this.publisher = this.serveGrip.getPublisher();
    this.express = express();
    this.express.use((req, _, next) => {
      this.requests.push({ path: req.path, url: req.url, headers: req.headers });
      next();
    });
    this.express.use(this.serveGrip);
    this.express.get('/feed/stream', (req, res) => this.#stream(req, res));
    this.express.get('/feed/poll', (req, res) => this.#poll(req, res));
  }

  // Answers what a client missed, and holds it from there on.
  #stream(req, res) {
    const missed = this.feed.after(known(req));
    const instruct = res.grip.startInstruct();
    instruct.addChannel([new Channel('feed', this.feed.lastId), 'everybody']);
    instruct.setHoldStream();
    instruct.setKeepAlive(':\n\n', 20);
    instruct.setNextLink(`/feed/stream?after=${this.feed.lastId}`, this.linkSeconds);
    // A link's answer goes on with a stream that has this already.
    const hello = req.headers['grip-last'] ? '' : `retry: ${RETRY}\n\n`;
    res.type('text/event-stream').send(hello + missed.map(sse).join(''));
  }

  // Answers what a client missed, or holds it if there is nothing.
  #poll(req, res) {
    const missed = this.feed.after(known(req));
    if (missed.length === 0) {
      const instruct = res.grip.startInstruct();
      instruct.addChannel([new Channel('feed', this.feed.lastId), 'everybody']);
      instruct.setHoldLongPoll(this.pollSeconds);
    }
    res.json(missed);
  }

  // Adds an event and publishes it to both kinds of clients. Tells whether gripd took it.
  async say(text) {
    const { prevId, ...event } = this.feed.add(text);
    const formats = [
      new HttpStreamFormat(sse(event)),
      new HttpResponseFormat({ headers: { 'Content-Type': 'application/json' }, body: JSON.stringify([event]) }),
    ];
    try {
      await within(DEADLINE, 'a publish', this.publisher.publishFormats('feed', formats, event.id, prevId));
      return true;
    } catch (error) {
      if (!(error instanceof PublishException)) throw error;
      return false;
    }
  }

  // The requests that gripd sent again or on its own, for clients that have got as far as an event.
  recoveries(path, id) {
    const last = `feed; last-id=${id}`;
    return this.requests.filter((request) => request.path === path && request.headers['grip-last'] === last);
  }
}

// The last event that a client has. gripd tells what it last let through; else the client itself does.
function known(req) {
  const lasts = (req.get('Grip-Last') ?? '').split(',').map((part) => part.trim().split('; last-id='));
  const [, id] = lasts.find(([channel]) => channel === 'feed') ?? [];
  return id ?? req.get('Last-Event-ID') ?? req.query.after;
}
