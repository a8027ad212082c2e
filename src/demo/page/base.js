'use strict';
// The parts of this script share one scope, and run in the order in which page.rs lists them.

// The code of the Close frame with which the chat ends the WebSocket of a removed person.
const KICKED = 4001;
// A name, as the origin accepts it: letters, marks, digits and _ of any script, and -.
const NAME = /^[\p{XIDC}-]{1,24}$/u;
const CONTROL = document.body.dataset.control;

const byId = (id) => document.getElementById(id);

// Returns a parameter of the page's address if it is valid, or else the default.
function asked(key, valid, otherwise) {
  const value = new URLSearchParams(location.search).get(key) ?? '';
  return valid.test(value) ? value : otherwise;
}

const conversation = asked('conversation', /^[A-Za-z0-9]{1,24}$/, '123');
let mode = asked('mode', /^(sse|poll|websocket)$/, 'sse');
// The name of this tab's person, and the connection that brings the news.
let me = '', source = null;

// Text is always set as text, never as markup, because names and messages come from other people.
function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

function button(className, label, onclick) {
  const element = make('button', className, label);
  element.type = 'button';
  element.onclick = onclick;
  return element;
}

// Returns an element with a time of the day. The parts are hours and minutes, unless others are given.
function timeElement(time, parts = { hour: '2-digit', minute: '2-digit' }) {
  return make('time', '', new Date(time).toLocaleTimeString([], { hourCycle: 'h23', ...parts }));
}

function setStatus(state, text) {
  // A screen reader would say an unchanged text again.
  if (byId('status').textContent === text) return;
  byId('status').dataset.state = state;
  byId('status').textContent = text;
}

// A list that scrolls, and stays at its end unless somebody has scrolled up.
class GrowingList {
  #list;
  #shownMax;
  #atEnd = true;

  constructor(list, shownMax) {
    this.#list = list;
    this.#shownMax = shownMax;
    list.onscroll = () => { this.#atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60; };
    new ResizeObserver(() => this.#stay()).observe(list);
  }

  append(element) {
    this.#list.append(element);
    while (this.#list.children.length > this.#shownMax) this.#list.firstChild.remove();
    this.#stay();
  }

  clear() {
    this.#list.replaceChildren();
    this.#atEnd = true;
  }

  #stay() {
    if (this.#atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

// The error of a request that got no response. Browsers have words of their own for it, such as "Failed to fetch".
class Unreachable extends Error {
  constructor() {
    super('gripd is not reachable');
  }
}

// The error of a request that was refused, with the reason that the response gives.
class Refused extends Error {
  constructor(status, reason) {
    super(reason || `the response has the status ${status}`);
    this.status = status;
  }
}

// Sends a request, and returns the response if it is a success.
async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: 'no-store', ...options });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Unreachable();
  }
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim().slice(0, 300));
  return answer;
}

function post(path, body) {
  return request(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...body, conversation }),
  });
}

// Returns the data of an event. Content that somebody publishes from a shell need not be JSON, and is then a text.
function dataOf(text) {
  try {
    const data = JSON.parse(text);
    return data !== null && typeof data === 'object' ? data : { text };
  } catch {
    return { text };
  }
}

const seat = () => `name=${encodeURIComponent(me)}&conversation=${conversation}`;
