// The panel "What just happened", which shows what this tab causes in terms of GRIP, and the commands for a shell.

const entries = new GrowingList(byId('happened'), 60);
// The screens on which the panel stands beside the chat. On narrower ones it is a sheet over the chat.
const wide = matchMedia('(min-width: 64rem)');

// Adds an entry: a title, perhaps lines of a request or response, and perhaps a receipt.
function happened(kind, title, lines, receipt) {
  const entry = make('li', '', make('div', 'title', make('span', '', title),
    timeElement(Date.now(), { hour: '2-digit', minute: '2-digit', second: '2-digit' })));
  entry.dataset.kind = kind;
  if (lines) entry.append(make('pre', '', lines.join('\n')));
  if (receipt) entry.append(make('p', 'receipt', receipt));
  entries.append(entry);
}

// Shows how the connection of this tab came to be held.
function heldBy({ request: lines, answer }) {
  happened('request', 'gripd forwarded the request of this tab', [decoded(lines[0]), ...lines.slice(1)]);
  happened('answer', 'The origin answered and was done', answer);
  happened('held', 'gripd holds this connection');
}

// Returns a request line with the names as people read them.
function decoded(line) {
  try {
    return decodeURI(line);
  } catch {
    return line;
  }
}

// Shows items that were published, and the receipt of gripd. The demo publishes each message a second time, for
// long-polls. That item is left out if nobody got it, so that the entry stays short.
function publishedEntry(kind, title, { items, receipt }) {
  const outcomes = receipt.items ?? [];
  const matters = (item, index) => !item.channel.endsWith('-polls') || outcomes[index]?.delivered > 0;
  const lines = ['POST /publish', ...items.filter(matters).map(abbreviated)];
  // Other GRIP proxies than gripd reply with a text and no counts.
  const counts = outcomes.filter((_, index) => matters(items[index], index)).map(countsOf);
  happened(kind, title, lines, counts.length ? counts.join('\n') : receipt.message);
}

// Returns an item as JSON, with the contents of its formats left out.
function abbreviated({ formats, ...item }) {
  const names = Object.keys(formats ?? {}).map((name) => `"${name}": …`).join(', ');
  const members = Object.entries(item).map(([key, value]) => `"${key}": ${JSON.stringify(value)}`);
  if (names) members.push(`"formats": {${names}}`);
  return `{${members.join(', ')}}`;
}

// Returns the counts of an item in words. Counts of zero are left out, except for the first.
function countsOf({ channel, ...counts }) {
  const entries = Object.entries(counts).filter(([, count], index) => index === 0 || count !== 0);
  return `Receipt: ${channel} → ${entries.map(([what, count]) => `${what}: ${count}`).join(', ')}`;
}

// Returns the arguments with which `gripd publish` and `gripd close` find a control port that is not the default one.
const spec = CONTROL === 'localhost:5561' ? '' : ` --spec http://${CONTROL}`;

// Returns a curl command that publishes an item.
function curl(item) {
  const body = JSON.stringify({ items: [item] });
  return `curl http://${CONTROL}/publish -H 'Accept: application/json' \\\n  -d '${body}'`;
}

// Shows the commands for a shell. `person` is somebody whose connections can be closed.
function showCommands(person) {
  const formats = {
    'http-stream': { content: 'data: hello\n\n' },
    'http-response': { body: 'hello' },
    'ws-message': { content: 'hello' },
  };
  const channel = `user-${person}`;
  const publish = `gripd publish conversation${conversation} hello${spec}`;
  byId('empty-command').replaceChildren(...words(publish));
  byId('cli-publish').replaceChildren(...words(publish));
  byId('cli-close').replaceChildren(...words(`gripd close ${channel} --deny-for 60${spec}`));
  byId('curl-publish').textContent = curl({ channel: `conversation${conversation}`, formats });
  byId('curl-close').textContent = curl({ channel, action: 'close', 'deny-for': 60 });
}

// Returns the words of a command as elements, so that a line does not break after a hyphen.
function words(command) {
  return command.split(' ').flatMap((word) => [' ', make('span', '', word)]).slice(1);
}

async function copy({ currentTarget: pressed }) {
  const code = pressed.parentElement.querySelector('code');
  const copied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
  if (!copied) getSelection().selectAllChildren(code);
  pressed.textContent = copied || document.execCommand('copy') ? 'Copied' : 'Selected';
  setTimeout(() => { pressed.textContent = 'Copy'; }, 1500);
}

for (const pressed of document.querySelectorAll('.copy')) pressed.onclick = copy;

// Puts the panel beside the chat on a wide screen. Elsewhere it waits until it is opened.
function placePanel() {
  const side = byId('side');
  if (side.open) side.close();
  side.open = wide.matches;
  side.role = wide.matches ? 'complementary' : null;
}

function openPanel(toEnd) {
  byId('side').showModal();
  if (toEnd) byId('happened').lastElementChild?.scrollIntoView({ block: 'end' });
  else byId('side').scrollTop = 0;
}

wide.onchange = placePanel;
byId('open-people').onclick = () => openPanel(false);
byId('open-happened').onclick = () => openPanel(true);
byId('close-side').onclick = () => byId('side').close();
// A click beside the sheet closes it: it hits the dialog itself only outside of its box.
byId('side').onclick = ({ target, clientX }) => {
  if (target === byId('side') && clientX < target.getBoundingClientRect().left) target.close();
};
