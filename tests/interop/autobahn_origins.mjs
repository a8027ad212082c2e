// The origins of autobahn.py: an echo server that speaks WebSocket, and one that speaks WebSocket over HTTP.
//
//     node autobahn_origins.mjs websocket|events FOLDER
//
// FOLDER is the folder in which npm has installed the package ws. The origin prints `listening PORT` when it is ready.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const EVENTS = 'application/websocket-events';
const CRLF = Buffer.from('\r\n');

class Refused extends Error {}

function echoWebSockets(server, folder) {
  const { WebSocketServer } = createRequire(resolve(folder, 'package.json'))('ws');
  // There are no limits, because Autobahn's longest message has 16 MiB, and another message comes in 65,536 fragments.
  const unlimited = { maxPayload: 0, maxFragments: 0, maxBufferedChunks: 0 };
  const sockets = new WebSocketServer({ server, perMessageDeflate: false, ...unlimited });
  sockets.on('connection', (socket) => {
    // Autobahn causes errors on purpose and judges what follows, so the origin ignores them.
    socket.on('error', () => {});
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
}

// Splits a body into events: `TYPE\r\n`, or `TYPE length\r\ncontent\r\n` with the length in hexadecimal digits.
function* parse(body) {
  let at = 0;
  while (at < body.length) {
    const end = body.indexOf(CRLF, at);
    const line = /^([A-Z]+)(?: ([0-9a-fA-F]+))?$/.exec(body.toString('latin1', at, Math.max(end, at)));
    if (!line) throw new Refused(`no event at byte ${at} of ${body.length}`);
    const [, type, length] = line;
    at = end + CRLF.length;
    const content = length === undefined ? undefined : body.subarray(at, at + Number.parseInt(length, 16));
    if (content) {
      at += Number.parseInt(length, 16) + CRLF.length;
      if (!CRLF.equals(body.subarray(at - CRLF.length, at))) throw new Refused(`no CRLF after ${type}`);
    }
    yield { type, content };
  }
}

function encode(type, content) {
  if (content === undefined) return [Buffer.from(`${type}\r\n`)];
  return [Buffer.from(`${type} ${content.length.toString(16)}\r\n`), content, CRLF];
}

function answer({ type, content }) {
  switch (type) {
    case 'OPEN': return encode('OPEN');
    case 'TEXT':
    case 'BINARY':
    case 'CLOSE': return encode(type, content);
    case 'PING': return encode('PONG', content);
    case 'PONG':
    case 'DISCONNECT': return [];
    default: throw new Refused(`unknown event ${type}`);
  }
}

async function whole(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function echoEvents(request, response) {
  try {
    const body = await whole(request);
    if (request.method !== 'POST' || request.headers['content-type'] !== EVENTS || !request.headers['connection-id']) {
      throw new Refused(`${request.method} of ${request.headers['content-type']} is not WebSocket-over-HTTP`);
    }
    const events = Buffer.concat([...parse(body)].flatMap(answer));
    response.writeHead(200, { 'Content-Type': EVENTS, 'Content-Length': events.length }).end(events);
  } catch (error) {
    response.writeHead(400, { 'Content-Type': 'text/plain' }).end(`${error.message}\n`);
  }
}

const [kind, folder] = process.argv.slice(2);
const server = kind === 'events' ? createServer(echoEvents) : createServer();
if (kind !== 'events') echoWebSockets(server, folder);
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
