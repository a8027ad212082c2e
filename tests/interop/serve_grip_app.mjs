// The application of serve_grip.mjs: Express, the middleware of serve-grip, and a feed of events in memory.

import { DEADLINE, RETRY, importPackage, within } from './harness.mjs';

const { default: express } = await importPackage('express');
const { ServeGrip } = await importPackage('@fanoutio/serve-grip');
const {
  Channel, HttpResponseFormat, HttpStreamFormat, PublishException,
} = await importPackage('@fanoutio/grip');

// The issuer and the key with which gripd signs requests by default.
export const SIGNER = { iss: 'pushpin', key: 'changeme' };
// The time, in seconds, after which gripd requests the next link of a silent stream.
const LINK_SECONDS = 2;
// The timeout of long-polls, in seconds. gripd allows no shorter one.
export const POLL_SECONDS = 5;

// The events of the application, all of which it keeps in memory.
export class Feed {
  events = [];

  // Adds an event. Returns it with the id of the event before it.
  add(text) {
    const { lastId: prevId } = this;
    const event = { id: `v${this.events.length + 1}`, text };
    this.events.push(event);
    return { ...event, prevId };
  }

  // The id of the last event. Before the first event it is v0, because gripd does not look for gaps without an id.
  get lastId() {
    return this.events.at(-1)?.id ?? 'v0';
  }

  // Returns the events after the one with this id, or all events if there is no id.
  after(id) {
    return this.events.slice(id ? Number(id.slice(1)) : 0);
  }
}

export const sse = ({ id, text }) => `id: ${id}\ndata: ${text}\n\n`;

// The backend: Express with the middleware of serve-grip, and a feed as a stream and as long-polls. Scenes add more
// routes.
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

  // Answers with the events that a client has missed, and holds the client as a stream after them.
  #stream(req, res) {
    const missed = this.feed.after(known(req));
    const instruct = res.grip.startInstruct();
    instruct.addChannel([new Channel('feed', this.feed.lastId), 'everybody']);
    instruct.setHoldStream();
    instruct.setKeepAlive(':\n\n', 20);
    instruct.setNextLink(`/feed/stream?after=${this.feed.lastId}`, this.linkSeconds);
    // If gripd requests this as a link, the response continues a stream, which has this line already.
    const hello = req.headers['grip-last'] ? '' : `retry: ${RETRY}\n\n`;
    res.type('text/event-stream').send(hello + missed.map(sse).join(''));
  }

  // Answers with the events that a client has missed, or holds a long-poll if there are none.
  #poll(req, res) {
    const missed = this.feed.after(known(req));
    if (missed.length === 0) {
      const instruct = res.grip.startInstruct();
      instruct.addChannel([new Channel('feed', this.feed.lastId), 'everybody']);
      instruct.setHoldLongPoll(this.pollSeconds);
    }
    res.json(missed);
  }

  // Adds an event and publishes it to streams and to long-polls. Returns whether gripd accepted it.
  async say(text) {
    const { prevId, ...event } = this.feed.add(text);
    const formats = [
      new HttpStreamFormat(sse(event)),
      new HttpResponseFormat({ headers: { 'Content-Type': 'application/json' }, body: JSON.stringify([event]) }),
    ];
    try {
      await within(DEADLINE, 'the end of a publish', this.publisher.publishFormats('feed', formats, event.id, prevId));
      return true;
    } catch (error) {
      if (!(error instanceof PublishException)) throw error;
      return false;
    }
  }

  // Returns the links and repeated long-polls that gripd requested for clients whose last event has this id.
  recoveries(path, id) {
    const last = `feed; last-id=${id}`;
    return this.requests.filter((request) => request.path === path && request.headers['grip-last'] === last);
  }
}

// Returns the id of the last event that a client has. In requests of its own gripd names it; otherwise the client does.
function known(req) {
  const lasts = (req.get('Grip-Last') ?? '').split(',').map((part) => part.trim().split('; last-id='));
  const [, id] = lasts.find(([channel]) => channel === 'feed') ?? [];
  return id ?? req.get('Last-Event-ID') ?? req.query.after;
}
