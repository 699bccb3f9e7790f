// The state of the session as the server has it, and every request to the server.
import { toast } from "./dom.js";

export const store = { state: null, entries: new Map() };
const listeners = new Set();

export function subscribe(listener) {
  listeners.add(listener);
  if (store.state) listener(store.state);
}

const tell = () => listeners.forEach((listener) => listener(store.state));

async function request(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}

export const get = (path) => request(path);
export const post = (path, body = {}) => request(path, {
  method: "POST",
  headers: { "content-type": "application/json", "x-modalign": "1" },
  body: JSON.stringify(body),
});

export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message);
    return null;
  }
}

let asking = null;
export function refresh() { // requests that come while one is under way share it
  asking ??= (async () => {
    try {
      const known = store.state?.version ?? -1;
      const answer = await get(`/api/state?known=${known}`);
      const changed = answer.version !== known;
      store.state = changed ? answer : { ...store.state, jobs: answer.jobs };
      document.body.classList.remove("offline");
      if (changed) await renew();
      tell();
    } catch (error) {
      document.body.classList.add("offline");
      if (store.state) toast("The studio does not answer. Labels given so far are kept; start it again.");
    } finally {
      asking = null;
    }
  })();
  return asking;
}

export const busy = () => ["fast", "slow"].some((lane) => store.state?.jobs[lane].running);

export function poll() {
  const pause = document.hidden ? 5000 : busy() || store.state?.jobs.fast.waiting.length ? 400 : 1200;
  setTimeout(async () => { await refresh(); poll(); }, pause);
}

// Entries of images: what is shown of each. Those that somebody looks at are renewed with every version.
const watchers = new Set();
export const watch = (rows) => watchers.add(rows);

async function renew() { // what is not in view is asked for again when it is
  const rows = [...new Set([...watchers].flatMap((visible) => visible()))];
  const before = new Set(store.entries.keys());
  const answers = await ask(rows);
  rows.forEach((row) => before.delete(row));
  before.forEach((row) => store.entries.delete(row));
  answers.forEach(keep);
}

async function ask(rows) {
  const answers = [];
  for (let i = 0; i < rows.length; i += 200) answers.push(await post("/api/entries", { rows: rows.slice(i, i + 200) }));
  return answers;
}

export async function load(rows) {
  (await ask(rows.filter((row) => !store.entries.has(row)))).forEach(keep);
}

const given = new Map(); // labels of this page, which an answer of an earlier version does not know yet
export function keep({ entries, version }) {
  for (const entry of entries) {
    const mine = given.get(entry.row);
    if (mine && mine.sent.version <= version) given.delete(entry.row);
    store.entries.set(entry.row, mine && mine.sent.version > version ? { ...entry, label: mine.of } : entry);
  }
}

const outgoing = new Set();
export const settled = () => Promise.all(outgoing); // all labels given so far are with the server

let turn = Promise.resolve(); // labels reach the server in the order in which they were given
export function label(rows, of, how = "set") { // of several classes per image, a list that is set, added or removed
  const sending = send(rows, of, how, turn).finally(() => outgoing.delete(sending));
  turn = sending;
  outgoing.add(sending);
  return sending;
}

function combined(before, of, how) {
  if (how === "set") return of;
  const kept = (before ?? []).filter((id) => !of.includes(id));
  return how === "add" ? [...kept, ...of].sort((a, b) => a - b) : kept;
}

async function send(rows, of, how, turn) { // shown at once, and taken back if the server refuses
  const sent = { version: Infinity };
  const before = { entries: rows.map((row) => store.entries.get(row)).filter(Boolean), version: -1 };
  rows.forEach((row) => given.set(row, { sent, of: combined(store.entries.get(row)?.label, of, how) }));
  keep(before);
  tell();
  try {
    await turn;
    const answer = await post("/api/label", { rows, of, how, since: store.state.stamp });
    sent.version = answer.version;
    store.state.stamp = Math.max(store.state.stamp, answer.stamp);
    if (answer.others) toast("Another tab labeled the same image meanwhile; the later label counts.");
    refresh();
  } catch (error) {
    rows.forEach((row) => { if (given.get(row)?.sent === sent) given.delete(row); });
    keep(before);
    toast(error.message);
    tell();
  }
}

export async function undo() {
  await settled();
  const answer = await attempt(() => post("/api/undo"));
  if (!answer) return;
  toast(answer.undone ? `Undone: ${{ label: "labels", sets: "labels", add: "new class", rename: "new name", merge: "merged classes" }[answer.undone] ?? answer.undone}.` : "There is nothing to undo.");
  await refresh();
}

export async function refit() {
  await attempt(() => post("/api/refit"));
  await refresh();
}

export const className = (id) => Array.isArray(id) ? id.map(className).join(", ") || "none of these" : id === "none" ? "none of these" : store.state.classes.find((c) => c.id === id)?.name ?? "–";
export const classIndex = (id) => store.state.classes.findIndex((c) => c.id === id);
