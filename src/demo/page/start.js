// The way in and out of the conversation.

// Whether the conversation is shown, and the time since which its connection is lost (0 while it is not).
let seated = false, lostSince = 0;
// The number of times that a connection has come or come back.
let arrivals = 0;
// Whether the person was removed from another conversation, so that only the connection of this one is renewed.
let elsewhere = false;

// The events of the chat, whatever brings them.
const HEARD = {
  hello: welcome,
  message: showMessage,
  joined: someoneJoined,
  left: someoneLeft,
  published,
  refused: notSent,
  kicked(told) {
    elsewhere = told.conversation !== undefined && told.conversation !== conversation;
    if (!elsewhere) stayOut({ reason: told.reason ?? `${told.by ?? 'Somebody'} removed you from the conversation` });
  },
};

function hear(told) {
  const event = told.event ?? 'message';
  // Content that is published from a shell may have any event, and need not have the members that one has.
  if (Object.hasOwn(HEARD, event)) HEARD[event](told.data ?? told);
}

function join(name) {
  me = name;
  sessionStorage.setItem('name', me);
  document.title = `${me} · gripd chat`;
  elsewhere = false;
  byId('join').disabled = true;
  byId('join').textContent = 'Joining…';
  setStatus('waiting', 'connecting…');
  connect();
}

// Shows the conversation, after the first event of a connection.
function welcome({ grip, ...here }) {
  elsewhere = false;
  if (!seated) enter();
  showPeople(here);
  if (grip) heldBy(grip);
  back();
  countTabs();
}

function enter() {
  seated = true;
  messages.clear();
  showEntrance(false);
  placePanel();
  byId('text').focus();
}

function showEntrance(shown) {
  byId('entrance').hidden = !shown;
  byId('chat').hidden = shown;
  byId('join').disabled = false;
  byId('join').textContent = byId('kicked').hidden ? 'Join' : 'Join again';
  if (shown && byId('side').open) byId('side').close();
  showExample();
}

// Notes that the connection is there, and tells a person who has seen it end that it is back.
function back() {
  if (lostSince) {
    const seconds = ((Date.now() - lostSince) / 1000).toFixed(1);
    note(`Connected again after ${seconds} s.`);
  }
  lostSince = 0;
  arrivals += 1;
  setStatus('connected', 'connected');
}

// Finds out why a connection ended or failed. Returns whether the person may come back.
async function lost(failed) {
  if (failed !== source) return false;
  if (seated) setStatus('waiting', 'reconnecting…');
  const before = arrivals;
  const { reason, seconds, unreachable, invalid } = await admission();
  if (failed !== source || arrivals !== before) return false;
  if (reason) stayOut({ reason, seconds });
  else if (invalid) refuseEntry(invalid);
  else noteLoss(unreachable);
  return !reason && !invalid && !unreachable;
}

// Asks whether the person may join. A browser does not tell the page why a stream or a WebSocket was refused.
async function admission() {
  try {
    return await (await request(`admission?${seat()}`, { signal: AbortSignal.timeout(5000) })).json();
  } catch (error) {
    return error.status === 400 ? { invalid: error.message } : { unreachable: true };
  }
}

function noteLoss(unreachable) {
  const text = unreachable
    ? 'gripd is not reachable. The page tries again every second.'
    : 'gripd closed this connection, as a publisher had asked for. The page connects again.';
  if (!seated) return unreachable && showError(text);
  if (unreachable) setStatus('waiting', 'not reachable');
  if (lostSince) return;
  lostSince = Date.now();
  note(text);
  if (!unreachable) happened('end', 'gripd closed this connection. Nothing keeps it from coming back');
}

function showError(text) {
  byId('join-error').hidden = !text;
  byId('join-error').textContent = text;
}

// Returns to the form, because the name is not valid.
function refuseEntry(why) {
  disconnect();
  leave();
  showError(why);
}

function leave() {
  seated = false;
  lostSince = 0;
  byId('name').value = me;
  showEntrance(true);
  byId('name').focus();
  byId('name').select();
  setStatus('idle', 'not joined');
}

// Returns to the form, because the person was removed, and tells why and for how long.
function stayOut({ reason, seconds }) {
  disconnect();
  happened('end', 'gripd closed this connection, and it must not come back', [reason]);
  showKicked(reason, adviceAfter(seconds));
  leave();
  setStatus('out', 'kicked out');
  showError('');
  countTabs();
}

// Shows on the form why the person was removed, or forgets it.
function showKicked(reason, advice = '') {
  byId('kicked').hidden = !reason;
  byId('invitation').hidden = Boolean(reason);
  byId('kicked-reason').textContent = reason && `${reason}.`;
  byId('kicked-advice').textContent = advice;
}

function adviceAfter(seconds) {
  if (typeof seconds !== 'number') {
    return `The name ${me} stays out until gripd is started again. Join under another name.`;
  }
  const until = new Date(Date.now() + seconds * 1000).toLocaleTimeString([], { hourCycle: 'h23' });
  return `gripd keeps ${me} out until ${until} (another ${seconds} s). Join under another name, or come back then.`;
}

function switchTo(chosen) {
  mode = chosen;
  document.querySelector(`#modes [value=${mode}]`).checked = true;
  const url = new URL(location.href);
  url.searchParams.set('mode', mode);
  history.replaceState(null, '', url);
  countTabs();
  if (!source) return;
  setStatus('waiting', 'connecting…');
  connect();
}

// Shows the example on the first card with the name that is typed.
function showExample() {
  const name = byId('name').value.trim() || 'alice';
  byId('how-request').textContent = `GET /events?name=${name}&conversation=${conversation}`;
  byId('how-answer').textContent = `Grip-Hold: stream\nGrip-Channel: conversation${conversation}, user-${name}, …`;
  byId('how-publish').textContent = `gripd publish conversation${conversation} hello\ngripd close user-${name}`;
}

byId('modes').onchange = ({ target }) => switchTo(target.value);
byId('name').oninput = showExample;

byId('join-form').onsubmit = (event) => {
  event.preventDefault();
  // The same name can be written with composed and with decomposed letters.
  const name = byId('name').value.trim().normalize('NFC');
  const valid = NAME.test(name);
  if (valid) showKicked('');
  showError(valid ? '' : 'A name has 1 to 24 letters or digits of any script, _ or -, and no spaces.');
  if (valid) join(name);
  else byId('name').focus();
};

byId('another').href = location.href;
byId('where').textContent = `conversation ${conversation}`;
document.querySelector(`#modes [value=${mode}]`).checked = true;
byId('name').value = sessionStorage.getItem('name') ?? '';
showExample();
showCommands('bob');
countTabs();
