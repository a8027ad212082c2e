// A chat whose clients miss nothing, as streams and long-polls. docs/tutorial.md explains it.

import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import express from 'express';
import { Channel, HttpResponseFormat, HttpStreamFormat } from '@fanoutio/grip';
import { ServeGrip } from '@fanoutio/serve-grip';

const gripd = new ServeGrip({ grip: 'http://localhost:5561/' });
const app = express().use(gripd, express.urlencoded());
app.listen(8000);

// The lines of the chat. They are also kept in a file, one JSON object a line.
const FILE = 'chat.jsonl';
const lines = existsSync(FILE) ? readFileSync(FILE, 'utf8').trim().split('\n').map((line) => JSON.parse(line)) : [];

// Returns the lines that the client does not have yet.
function missed(req) {
  const [, last] = /last-id=(\d+)/.exec(req.get('Grip-Last')) ?? [];
  const after = Number(last ?? req.get('Last-Event-ID') ?? req.query.after) || 0;
  return lines.filter(({ id }) => id > after);
}

const user = (req) => encodeURIComponent(req.query.name ?? 'guest');

// Makes gripd hold the client after the last line.
function hold(req, res) {
  const hold = res.grip.startInstruct();
  hold.addChannel([new Channel('conversation123', `${lines.length}`), `user-${user(req)}`]);
  return hold;
}

const event = (line) => `id: ${line.id}\ndata: ${JSON.stringify(line)}\n\n`;

app.get('/events', (req, res) => {
  const stream = hold(req, res);
  stream.setHoldStream();
  stream.setNextLink(`/events?name=${user(req)}`, 20);
  res.type('text/event-stream').send(missed(req).map(event).join(''));
});

app.post('/say', (req, res) => {
  const line = { id: lines.length + 1, name: req.body.name, text: req.body.text };
  appendFileSync(FILE, `${JSON.stringify(line)}\n`);
  lines.push(line);
  const formats = [new HttpStreamFormat(event(line)), new HttpResponseFormat({ body: `${JSON.stringify([line])}\n` })];
  gripd.getPublisher().publishFormats('conversation123', formats, `${line.id}`, `${line.id - 1}`)
    .catch(({ message }) => console.error(`The line is stored, but not published yet: ${message}`));
  res.sendStatus(204);
});

app.get('/', (req, res) => res.sendFile('chat.html', { root: '..' }));

app.get('/poll', (req, res) => {
  const answer = missed(req);
  if (answer.length > 0) return res.json(answer);
  hold(req, res).setHoldLongPoll();
  res.sendStatus(204);
});
