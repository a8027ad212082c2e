// The tabs of this browser that hold an HTTP/1.1 connection. A browser opens at most six to one address, so that the
// requests of a seventh tab wait until one of the six is free. Each tab holds a lock for as long as it holds a
// connection, so that all tabs can count them.

const CONNECTIONS_MAX = 6;
const LOCK = 'gripd chat: a held connection';
// Browsers have locks on secure pages only, such as those of localhost. Elsewhere the tabs are not counted.
const locks = navigator.locks;
const neighbours = new BroadcastChannel('gripd chat: tabs');

// Holds the lock until the returned function is called.
function holdConnection() {
  let release = () => {};
  const released = new Promise((done) => { release = done; });
  locks?.request(LOCK, { mode: 'shared' }, () => {
    tellTabs();
    return released;
  }).then(tellTabs);
  return release;
}

function tellTabs() {
  neighbours.postMessage('count');
  countTabs();
}

// Counts the connections of all tabs, and says so if the next one will have to wait.
async function countTabs() {
  const { held = [] } = await locks?.query() ?? {};
  const count = held.filter(({ name }) => name === LOCK).length;
  const waits = source !== null && !seated;
  byId('crowd').hidden = count < CONNECTIONS_MAX || mode === 'websocket';
  byId('crowd-title').textContent = waits ? 'This tab has to wait.' : 'The next tab will have to wait.';
  byId('crowd-text').textContent = `${count} tabs of this browser hold a connection to this address or wait for one, `
    + `and a browser opens at most ${CONNECTIONS_MAX} over HTTP/1.1. Until one is free, other tabs do not load, and `
    + 'messages are not sent.';
}

neighbours.onmessage = countTabs;
document.addEventListener('visibilitychange', countTabs);
byId('to-websocket').onclick = () => switchTo('websocket');
