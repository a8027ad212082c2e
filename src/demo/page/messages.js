// The conversation: messages, those that are on their way, and notes.

const messages = new GrowingList(byId('messages'), 500);
// The time after which a message that is still on its way says so.
const SLOW_MS = 1000;

// Shows a note among the messages.
function note(text) {
  messages.append(make('li', 'note', text));
}

// Returns the element of a message, with a line for its state if it has one.
function messageElement(from, text, time, state) {
  const item = make('li', from === me ? 'message mine' : 'message', make('bdi', 'from', from), timeElement(time),
    make('span', 'text', text));
  item.querySelector('.text').dir = 'auto';
  if (state) item.append(make('span', 'state', state));
  return item;
}

const shownMessage = (id) => document.querySelector(`.message[data-id="${CSS.escape(id)}"]`);

// Shows a message. It replaces the element that the sender's page has shown before.
function showMessage({ from, text, time, id, ...others }) {
  // Only the sender's own message is replaced: others know its id as well.
  const known = typeof id === 'string' ? shownMessage(id) : null;
  if (known?.querySelector('.from').textContent === String(from)) known.remove();
  const content = typeof text === 'string' ? text.trimEnd() : JSON.stringify({ text, ...others });
  const when = typeof time === 'number' ? time : Date.now();
  const item = messageElement(String(from ?? 'somebody at a shell'), content, when);
  if (typeof id === 'string') item.dataset.id = id;
  messages.append(item);
  showEmptiness();
}

function newId() {
  // The function randomUUID of browsers exists on secure pages only.
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// Shows a message as being sent, and sends it.
function say(text) {
  const id = newId();
  const item = messageElement(me, text, Date.now(), 'sending…');
  item.dataset.id = id;
  item.classList.add('pending');
  messages.append(item);
  showEmptiness();
  transmit(id, text);
}

// Sends a message over the WebSocket, or else by a request. What becomes of it, says an event or the response.
async function transmit(id, text) {
  setTimeout(() => sayThatItIsSlow(id), SLOW_MS);
  try {
    if (source instanceof WebSocket) return sendLine(id, text);
    const answer = await post('say', { name: me, text, id });
    published({ id, ...await answer.json() });
  } catch (error) {
    notSent({ id, text, reason: error.message });
  }
}

function sendLine(id, text) {
  if (source.readyState !== WebSocket.OPEN) throw new Error('the WebSocket is not connected');
  source.send(JSON.stringify({ id, text }));
}

function sayThatItIsSlow(id) {
  const item = shownMessage(id);
  if (!item?.classList.contains('pending')) return;
  item.querySelector('.state').textContent = 'still sending…';
  countTabs();
}

// Marks a message as sent. The stream brings it as well, unless it is being renewed at this moment.
function published({ id, ...publication }) {
  const item = shownMessage(id);
  item?.classList.remove('pending');
  item?.querySelector('.state')?.remove();
  publishedEntry('publish', 'The origin published your message', publication);
}

// Marks a message as not sent, and offers to send it again.
function notSent({ id, text, reason }) {
  const item = shownMessage(id);
  if (!item) return note(`Not sent: ${reason}`);
  item.classList.replace('pending', 'failed');
  item.querySelector('.state').replaceChildren(`Not sent: ${reason}.`, button('plain', 'Try again', () => {
    item.classList.replace('failed', 'pending');
    item.querySelector('.state').textContent = 'sending…';
    transmit(id, text);
  }));
}

// Marks the messages that a WebSocket has taken along when it ended.
function nothingConfirmed() {
  for (const item of document.querySelectorAll('.message.pending')) {
    const text = item.querySelector('.text').textContent;
    notSent({ id: item.dataset.id, text, reason: 'the connection ended before the origin had confirmed it' });
  }
}

// Shows in an empty conversation what to do next.
function showEmptiness() {
  const alone = peopleCount < 2;
  byId('empty').hidden = document.querySelector('.message') !== null;
  byId('alone').hidden = !alone;
  byId('empty-title').textContent = alone ? 'You are the only one here' : 'Nobody has written yet';
  byId('empty-text').textContent = alone
    ? 'Open this page in another tab, join under another name, and talk.'
    : 'Write something below, and everybody who is here sees it at once.';
}

byId('say-form').onsubmit = (event) => {
  event.preventDefault();
  const text = byId('text').value;
  if (!text.trim()) return;
  byId('text').value = '';
  say(text);
};
