// "Accuracy" where an image may show several classes: average precision and F1 on the exam, by class.
import { curve, tooFew } from "./accuracy.js";
import { count, el, percent } from "./dom.js";
import { className, subscribe } from "./store.js";

export class SetAccuracy {
  constructor({ browse, ask }) {
    this.node = el("div", { class: "accuracy" });
    subscribe((state) => {
      const key = JSON.stringify([state.exam, state.curve, state.classes.map((c) => c.name)]);
      if (key === this.key) return;
      this.key = key;
      this.node.replaceChildren(result(state, ask), curve(state, "Micro F1", "95 % bootstrap interval of micro F1"), classes(state, browse));
    });
  }
}

const range = (share) => `${percent(share.low)} to ${percent(share.high)}`;

function result(state, ask) {
  const { sets, before, answered } = state.exam;
  const section = el("section", { class: "result" }, el("h2", {}, "Quality on the exam"));
  if (!sets) {
    if (tooFew(state)) return section.append(el("p", {}, tooFew(state))), section;
    section.append(el("p", {}, `It is shown from ${state.least_shown} labeled exam images on; there ${answered === 1 ? "is" : "are"} ${answered}.`));
  } else {
    section.append(
      el("p", { class: "big" }, el("strong", {}, percent(sets.map.value)), el("span", {}, `mean average precision, 95 % interval ${range(sets.map)}, ${count(sets.n, "image")}`)),
      el("p", {}, `F1 of all answers: ${percent(sets.f1.value)} (${range(sets.f1)}). Sets that are exactly right: ${sets.exact ? `${percent(sets.exact.value)} (${range(sets.exact)})` : "–"}.`));
    if (before) section.append(el("p", {}, `Before any label the mean average precision was ${percent(before.map.value)} and F1 ${percent(before.f1.value)} on the same images.`));
  }
  section.append(el("p", { class: "muted" }, `Every fifth image that is asked for belongs to the exam: ${count(state.counts.reserved, "image")} drawn at random, never learned from. ` +
    "The intervals are over bootstrap draws of the exam images."), el("button", { onclick: ask }, "Label exam images"));
  return section;
}

function classes(state, browse) {
  const section = el("section", {}, el("h2", {}, "Classes on the exam"));
  if (!state.exam.classes.length) {
    section.append(el("p", { class: "muted" }, tooFew(state) || "Label exam images to see which classes are found."));
    return section;
  }
  const cell = (share) => share ? el("td", {}, percent(share.value), el("span", { class: "interval" }, range(share))) : el("td", { class: "muted" }, "–");
  const rows = state.exam.classes.map((c) => el("tr", {},
    el("th", { scope: "row", dir: "auto" }, el("button", { class: "quiet", onclick: () => browse({ show: "exam", labeled: c.id, order: "given" }) }, className(c.id))),
    el("td", {}, String(c.n)), cell(c.ap), cell(c.f1)));
  section.append(el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Classes on the exam" },
    el("table", { class: "scores" }, el("thead", {}, el("tr", {}, ...["Class", "Images", "Average precision", "F1"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...rows))),
  el("p", { class: "muted" }, "A class opens its exam images."));
  return section;
}
