// The three ways in which the page gets its news. Each is an object with a method `close`.

const TRANSPORTS = { sse: openStream, poll: openPoll, websocket: openSocket };
const RECONNECT_MS = 1000;
// A long-poll without news that ends earlier than this was closed. Otherwise it ends after 25 seconds.
const EARLY_MS = 20_000;
let retry = 0, releaseConnection = () => {};

function connect() {
  disconnect();
  if (mode !== 'websocket') releaseConnection = holdConnection();
  source = TRANSPORTS[mode]();
  countTabs();
}

function disconnect() {
  clearTimeout(retry);
  source?.close();
  source = null;
  releaseConnection();
  releaseConnection = () => {};
}

function openStream() {
  const stream = new EventSource(`events?${seat()}`);
  // The browser connects again by itself after the end of a stream, but not after a refusal.
  stream.onerror = async () => {
    const refused = stream.readyState === EventSource.CLOSED;
    await lost(stream);
    if (refused) reconnectLater(stream);
  };
  for (const event of Object.keys(HEARD)) {
    stream.addEventListener(event, ({ data }) => hear({ event, data: dataOf(data) }));
  }
  return stream;
}

function openSocket() {
  const url = new URL(`events?${seat()}`, location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => {
    if (socket === source) hear(dataOf(data));
  };
  socket.onclose = async ({ code }) => {
    if (socket !== source) return;
    nothingConfirmed();
    if (code === KICKED && !elsewhere) return stayOut({ reason: 'You were removed from the conversation' });
    await lost(socket);
    reconnectLater(socket);
  };
  return socket;
}

function reconnectLater(failed) {
  if (failed === source) retry = setTimeout(connect, RECONNECT_MS);
}

function openPoll() {
  const polling = new LongPoll();
  polling.run();
  return polling;
}

// Long-polls, one after the other. Each names the last news that the page has, so that it misses none in between.
class LongPoll {
  #stop = new AbortController();
  #last = '';

  close() {
    this.#stop.abort();
  }

  async run() {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const asked = Date.now();
      const news = await this.#ask().catch(() => null);
      if (signal.aborted) return;
      const ended = news === null || (!news.length && Date.now() - asked < EARLY_MS);
      if (ended) await this.#recover();
    }
  }

  // Waits until gripd answers again. A long-poll that is held does not tell that.
  async #recover() {
    while (source === this && !await lost(this)) await pause(RECONNECT_MS);
    await pause(RECONNECT_MS);
    if (source === this) back();
  }

  async #ask() {
    const answer = await request(`poll?${seat()}&after=${this.#last}`, { signal: this.#stop.signal });
    const told = dataOf(await answer.text()), news = told.news ?? [told];
    this.#last = told.last ?? this.#last;
    for (const one of news) if (source === this) hear(one);
    return news;
  }
}
