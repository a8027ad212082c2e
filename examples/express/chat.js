// A chat with gripd as streams, long-polls and WebSockets. docs/tutorial.md explains it.

import express from 'express';
import { HttpResponseFormat, HttpStreamFormat, WebSocketMessageFormat } from '@fanoutio/grip';
import { ServeGrip } from '@fanoutio/serve-grip';

const gripd = new ServeGrip({ grip: 'http://localhost:5561/' });
const app = express().use(gripd, express.urlencoded());
app.listen(8000);

const channels = (req) => ['conversation123', `user-${encodeURIComponent(req.query.name ?? 'guest')}`];

function tell(name, text) {
  const line = JSON.stringify({ name, text });
  const stream = new HttpStreamFormat(`data: ${line}\n\n`);
  const formats = [stream, new HttpResponseFormat({ body: `${line}\n` }), new WebSocketMessageFormat(line)];
  return gripd.getPublisher().publishFormats('conversation123', formats);
}

app.get('/events', (req, res) => {
  const hold = res.grip.startInstruct();
  hold.addChannel(channels(req));
  hold.setHoldStream();
  res.type('text/event-stream').end();
});

app.post('/say', async (req, res) => {
  await tell(req.body.name, req.body.text);
  res.sendStatus(204);
});

app.get('/', (req, res) => res.sendFile('chat.html', { root: '..' }));

app.get('/poll', (req, res) => {
  const hold = res.grip.startInstruct();
  hold.addChannel(channels(req));
  hold.setHoldLongPoll();
  res.sendStatus(204);
});

app.post('/socket', async (req, res) => {
  const socket = req.grip.wsContext;
  if (!socket) return res.sendStatus(400);
  if (socket.isOpening()) {
    socket.accept();
    channels(req).forEach((channel) => socket.subscribe(channel));
  }
  while (socket.canRecv()) {
    let text;
    try { text = socket.recv(); } catch { break; } // The client has gone without a close.
    if (text === null) socket.close(socket.closeCode ?? 1000);
    else await tell(req.query.name ?? 'guest', text);
  }
  res.end();
});
