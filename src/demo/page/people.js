// The people who are here. The first event of a connection lists them, and so does every event about a change.

let people = [], peopleCount = 1, listed = '';

function showPeople(here) {
  // The list is drawn only if it has changed, so that a button stays under the pointer and keeps the focus.
  const key = JSON.stringify([me, here.people, here.count]);
  if (key === listed) return;
  listed = key;
  people = here.people ?? [];
  peopleCount = Math.max(here.count ?? 0, people.length, 1);
  const label = `Here now: ${peopleCount}`;
  byId('people-title').textContent = byId('open-people').textContent = label;
  const shown = people.length ? people : [me];
  byId('people').replaceChildren(...shown.map(personElement));
  if (peopleCount > shown.length) byId('people').append(make('li', 'more', `and ${peopleCount - shown.length} more`));
  showCommands(people.find((name) => name !== me) ?? 'bob');
  showEmptiness();
}

function personElement(name) {
  const item = make('li', '', make('bdi', 'who', name));
  item.dataset.name = name;
  if (name === me) {
    item.append(make('small', '', '(you)'));
  } else {
    const kicking = button('plain kick', 'Kick', () => kick(name, kicking));
    kicking.setAttribute('aria-label', `Kick ${name}`);
    item.append(kicking);
  }
  return item;
}

async function kick(name, pressed) {
  pressed.disabled = true;
  try {
    const answer = await post('kick', { name, by: me });
    const { items, receipt } = await answer.json();
    const closed = receipt.items?.[0]?.closed;
    note(`You removed ${name}` + (closed === undefined ? '' : ` (closed: ${closed})`));
    publishedEntry('end', `The origin published a goodbye to ${name}, and a close`, { items, receipt });
  } catch (error) {
    note(`${name} was not removed: ${error.message}.`);
  } finally {
    pressed.disabled = false;
  }
}

// Shows that somebody has come. The person of this tab has come as well, when gripd has reported it.
function someoneJoined({ name, ...here }) {
  showPeople(here);
  happened('webhook', `Webhook: conversation${conversation}-user-${name} joined`);
  if (name !== me) note(`${name} joined`);
}

// Shows that somebody has gone, or was removed. The tab that removes somebody shows it with the receipt.
function someoneLeft({ name, by, ...here }) {
  showPeople(here);
  if (by === undefined) happened('webhook', `Webhook: conversation${conversation}-user-${name} left`);
  if (by !== me) note(by === undefined ? `${name} left` : `${name} was removed by ${by}`);
}
