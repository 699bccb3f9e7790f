// The page: views, keys, and the line of facts.
import { Accuracy, tooFew } from "./accuracy.js";
import { Asking } from "./asking.js";
import { Browse } from "./browse.js";
import { choose, classList, keyOf } from "./classes.js";
import { count, dialog, el, percent } from "./dom.js";
import { Exporting } from "./exporting.js";
import { picture } from "./grid.js";
import { Map2D } from "./map.js";
import { SetAccuracy } from "./set_accuracy.js";
import { className, label, load, poll, refit, refresh, store, subscribe, undo } from "./store.js";

const browseFor = async (query) => {
  await browse.ask({ show: "all", order: "given", predicted: null, labeled: null, ...query });
  go("browse");
};

const asking = new Asking();
const browse = new Browse({ open });
const map = new Map2D({ browse: (rows) => { browse.only(rows); go("browse"); } });
await refresh();
const askExam = () => { asking.by = asking.rule.value = "exam"; asking.ask(); go("label"); };
const accuracy = store.state.multi_label ? new SetAccuracy({ browse: browseFor, ask: askExam }) : new Accuracy({ browse: browseFor, ask: askExam });
const views = {
  label: ["Label", asking], browse: ["Browse", browse], map: ["Map", map], accuracy: ["Accuracy", accuracy], export: ["Export", new Exporting()],
};
let active = "label";

function go(name) {
  active = name;
  document.body.dataset.view = name;
  for (const [key, [, view]] of Object.entries(views)) {
    view.node.hidden = key !== name;
    const tab = document.getElementById(`tab-${key}`);
    tab.setAttribute("aria-selected", String(key === name));
    tab.tabIndex = key === name ? 0 : -1;
  }
  if (name === "browse") { if (!browse.grid.rows.length && !browse.among) browse.ask({}); browse.grid.draw(); browse.grid.node.focus(); }
  if (name === "map") map.ask();
  if (name === "label") asking.draw();
}

function build() {
  const tabs = document.getElementById("tabs");
  const keys = Object.keys(views);
  tabs.append(...keys.map((key) => el("button", {
    id: `tab-${key}`, role: "tab", "aria-controls": `view-${key}`,
    onclick: () => { go(key); if (key !== "browse") document.getElementById("main").focus(); }, // arrows then move in the view
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.stopPropagation();
      const next = keys[(keys.indexOf(key) + step + keys.length) % keys.length];
      go(next);
      document.getElementById(`tab-${next}`).focus();
    },
  }, views[key][0])));
  for (const [key, [, view]] of Object.entries(views)) {
    view.node.id = `view-${key}`;
    view.node.setAttribute("role", "tabpanel");
    view.node.setAttribute("aria-labelledby", `tab-${key}`);
    document.getElementById("main").append(view.node);
  }
  classList(document.getElementById("classes"), assign, browseFor);
  document.getElementById("facts").append(facts(), el("button", { class: "quiet", "aria-label": "Keys", title: "Keys (?)", onclick: help }, "?"));
}

function facts() {
  const labels = el("span");
  const score = el("button", { class: "score", onclick: () => go("accuracy") });
  const fit = el("span", { class: "fit" });
  subscribe((state) => {
    document.getElementById("title").textContent = state.title;
    document.title = `${state.title} · modalign studio`;
    const { counts, exam } = state;
    labels.textContent = `${count(counts.taught + counts.exam, "label")} of ${state.images.toLocaleString("en-US")}`;
    const { sets } = exam;
    if (sets) score.replaceChildren(`Exam mAP ${percent(sets.map.value)}`, el("span", { class: "range" }, `${percent(sets.map.low)} to ${percent(sets.map.high)}`));
    else score.replaceChildren(exam.accuracy ? `Exam ${percent(exam.accuracy.top1)}` : tooFew(state) ? "No exam" : `Exam ${exam.answered} of ${state.least_shown}`,
      exam.accuracy ? el("span", { class: "range" }, `${percent(exam.accuracy.low)} to ${percent(exam.accuracy.high)}`) : "");
    score.title = sets ? `Mean average precision on ${sets.n} exam images with its 95 % interval` : exam.accuracy ? `Accuracy on ${exam.accuracy.n} exam images with its 95 % interval` : tooFew(state) || `Accuracy is shown from ${state.least_shown} exam labels on`;
    const running = state.jobs.fast.running ?? state.jobs.slow.running;
    const error = Object.values({ ...state.jobs.fast.errors, ...state.jobs.slow.errors })[0];
    fit.textContent = error ?? (running ? `${{ refit: "Refitting", "thorough refit": "Trying methods", map: "Drawing the map", model: "Fitting the model", "model-with-exam": "Fitting the model", sorted: "Sorting" }[running]} …` : state.method.name || "No prediction yet");
    fit.title = fit.textContent;
    fit.classList.toggle("running", Boolean(running) && !error);
    fit.classList.toggle("failed", Boolean(error));
  });
  return el("div", { class: "line" }, labels, score, fit);
}

async function assign(of) {
  const view = views[active][1];
  const rows = view.targets?.() ?? [];
  if (!rows.length) return;
  if (store.state.multi_label) return assignSet(of, view, rows);
  if (rows.length > 200 && !confirm(`Label ${count(rows.length, "image")} as “${className(of)}”?`)) return;
  label(rows, of);
  await view.labeled?.(rows);
}

async function assignSet(of, view, rows) { // one image is answered as a whole, a selection changes by one class
  if (view === asking) return of === "none" ? asking.commit([]) : asking.toggle(of);
  if (of === "none") return label(rows, []);
  await load(rows.slice(0, 200));
  const all = rows.every((row) => store.entries.get(row)?.label?.includes(of));
  return label(rows, [of], all ? "remove" : "add");
}

async function clear() {
  const rows = views[active][1].targets?.() ?? [];
  if (rows.length) await label(rows, null);
}

async function open(row) {
  await load([row]);
  const entry = store.entries.get(row);
  if (!entry) return;
  const image = picture(entry, "photo");
  image.alt = entry.id;
  const similar = el("button", { onclick: () => { box.close(); browseFor({ order: "similar", to: row }); } }, "Similar images");
  const guess = entry.best.map(([id, share]) => `${className(id)} ${percent(share)}`).join(", ");
  const box = dialog(entry.id, el("div", { class: "large" }, image), el("p", { dir: "auto" }, guess), el("div", { class: "line" }, similar));
}

function help() {
  const several = store.state.multi_label;
  const rows = [["1 … 9, 0", several ? "add or remove one of the first ten classes" : "label as one of the first ten classes"], ["letters", "choose a class by its name"], ["–", "none of these"], ["Backspace", "take the label away"],
    ["Ctrl Z", "undo the last change"], ...(several ? [["Enter", "in Label: save the classes of the image"], ["Ctrl Enter", "refit now"]] : [["Enter", "refit now"]]), ["arrows", "move; with Shift extend the selection"], ["Space", "select or not"], ["Ctrl A", "select all"],
    ["Alt Enter", "open the image"], ["/", "find by words"]];
  dialog("Keys", el("dl", { class: "keys" }, ...rows.map(([key, text]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)))));
}

function onKey(event) {
  if (event.target.closest("input, select, textarea, dialog")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") undo();
  else if ((event.ctrlKey || event.metaKey) && event.key === "Enter") refit();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (/^[0-9]$/.test(event.key)) {
    const c = store.state.classes.find((_, i) => keyOf(i) === event.key);
    if (c) assign(c.id);
  } else if (event.key === "-") assign("none");
  else if (event.key === "Backspace" || event.key === "Delete") clear();
  else if (event.key === "/") { go("browse"); browse.words.focus(); }
  else if (event.key === "?") help();
  else if (event.key === "Enter" && (active === "label" && store.state.multi_label || !event.target.closest("button, a"))) {
    if (active === "label" && store.state.multi_label) asking.commit();
    else refit();
  }
  else if (/^\p{L}$/u.test(event.key) && (views[active][1].targets?.() ?? []).length) choose(event.key, assign);
  else if (!(active === "label" && asking.key(event))) return;
  event.preventDefault();
}

if (location.search) history.replaceState(null, "", location.pathname); // the token is in a cookie now
build();
document.addEventListener("keydown", onKey);
if (store.state.listed) await browseFor({ show: "listed" });
else go("label");
await asking.ask();
poll();
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
