// "Label": one image after the other, the most useful first.
import { el, percent, select } from "./dom.js";
import { meter, picture } from "./grid.js";
import { attempt, className, get, keep, label, refit, settled, store, subscribe, undo, watch } from "./store.js";

const BATCH = 10;
const RULES = { both: "Uncertain and diverse", uncertain: "Most uncertain", diverse: "Most diverse", random: "Random", exam: "Exam only" };

export class Asking {
  constructor() {
    this.rows = [];
    this.at = 0;
    this.by = "both";
    this.rule = select("Which images to label next", Object.entries(RULES), "both", (by) => { this.by = by; this.ask(); });
    this.pending = { row: null, classes: new Set() }; // of several classes per image, before they are saved
    this.save = el("button", { class: "primary", hidden: true, onclick: () => this.commit() }, "Save classes");
    this.refit = el("button", { class: "primary refit", onclick: refit }, "Refit");
    this.progress = el("span", { class: "muted" });
    this.card = el("div", { class: "card" });
    this.strip = el("ol", { class: "strip", "aria-label": "Images of this round" });
    this.node = el("div", { class: "asking" },
      el("div", { class: "toolbar" },
        el("label", {}, el("span", {}, "Label next"), this.rule), this.progress, el("span", { class: "space" }),
        this.save, el("button", { onclick: undo }, "Undo"), this.refit),
      this.card, this.strip);
    watch(() => this.rows);
    subscribe(() => this.draw());
  }

  async ask() {
    if (this.waiting) return;
    this.waiting = true; // no key labels an image that is about to go
    await settled(); // else the last images of this round would be asked for again
    const answer = await attempt(() => get(`/api/next?by=${this.by}&count=${BATCH}`));
    this.waiting = false;
    if (!answer) return;
    keep(answer);
    this.rows = answer.entries.map((entry) => entry.row);
    this.at = 0;
    this.draw();
  }

  targets() {
    return this.rows.length && !this.waiting ? [this.rows[this.at]] : [];
  }

  async labeled() { // the next image without a label, or a new round
    const next = [...this.rows.keys()].map((i) => (this.at + 1 + i) % this.rows.length)
      .find((i) => store.entries.get(this.rows[i])?.label === null);
    if (next === undefined) await this.ask();
    else this.go(next);
  }

  toggle(id) {
    if (!this.pending.classes.delete(id)) this.pending.classes.add(id);
    this.draw();
  }

  async commit(classes = [...this.pending.classes]) {
    const rows = this.targets();
    if (!rows.length) return;
    this.pending.row = null;
    label(rows, [...classes].sort((a, b) => a - b));
    await this.labeled();
  }

  mark() { // the classes of the list that are chosen so far
    const several = store.state.multi_label;
    this.save.hidden = !several;
    this.refit.classList.toggle("primary", !several);
    this.refit.classList.toggle("spare", several);
    for (const button of document.querySelectorAll("button.class[data-id]")) {
      if (!several || button.dataset.id === "none" || this.node.hidden) button.removeAttribute("aria-pressed");
      else button.setAttribute("aria-pressed", String(this.pending.classes.has(Number(button.dataset.id))));
    }
  }

  go(i) {
    this.at = Math.min(this.rows.length - 1, Math.max(0, i));
    this.draw();
  }

  key(event) {
    if (event.key === "ArrowRight" || event.key === "ArrowDown") this.go(this.at + 1);
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") this.go(this.at - 1);
    else return false;
    return true;
  }

  draw() {
    if (!store.state) return;
    this.mark();
    if (!this.rows.length) {
      this.card.replaceChildren(el("p", { class: "empty" }, "Every image has a label. Open the accuracy, or browse for doubtful labels."));
      this.strip.replaceChildren();
      this.progress.textContent = "";
      return;
    }
    const entries = this.rows.map((row) => store.entries.get(row)).filter(Boolean);
    if (entries.length < this.rows.length) return;
    const done = entries.filter((entry) => entry.label !== null).length;
    this.progress.textContent = `${done} of ${this.rows.length} in this round`;
    const entry = entries[this.at];
    if (this.pending.row !== entry.row) this.pending = { row: entry.row, classes: new Set(entry.label ?? []) };
    this.mark();
    const key = JSON.stringify([entry, store.state.classes.map((c) => c.name), [...this.pending.classes]]);
    if (this.card.dataset.key !== key) {
      this.card.dataset.key = key;
      const image = this.shown === entry.content ? this.card.querySelector("img") : picture(entry, "photo");
      image.loading = "eager";
      const name = entry.exam ? "" : entry.id.split("/").at(-1); // a folder may be named after the class
      image.alt = name || "exam image";
      this.shown = entry.content;
      this.card.replaceChildren(el("figure", {}, image, el("figcaption", { dir: "auto" }, name)), this.words(entry));
    }
    this.strip.replaceChildren(...entries.map((e, i) => el("li", {},
      el("button", {
        class: i === this.at ? "at" : "", "aria-current": i === this.at ? "true" : undefined, onclick: () => this.go(i),
        "aria-label": `Image ${i + 1}${e.exam ? ", exam" : ""}${e.label === null ? "" : `, labeled ${className(e.label)}`}`,
      }, picture(e), el("span", { class: "under", dir: "auto" }, e.label === null ? (e.exam ? "exam" : "·") : className(e.label))))));
    const next = entries[(this.at + 1) % entries.length];
    if (next.content !== this.ahead) { // fetched before it is asked for
      this.ahead = next.content;
      new Image().src = `/photo/${next.content}.webp`;
    }
  }

  chosen() {
    const ids = store.state.classes.map((c) => c.id).filter((id) => this.pending.classes.has(id));
    const label = store.entries.get(this.rows[this.at])?.label;
    const saved = label && String(label) === String(ids);
    return el("div", { class: "chosen", role: "status" },
      ...ids.map((id) => el("button", { class: "chip", onclick: () => this.toggle(id), "aria-label": `Remove ${className(id)}`, dir: "auto" }, className(id), el("span", { "aria-hidden": "true" }, "✕"))),
      el("span", { class: "muted" }, saved ? (ids.length ? "saved" : "Saved: none of these.") : ids.length ? "not saved yet" : "No class chosen yet."));
  }

  words(entry) {
    const several = store.state.multi_label;
    const parts = [el("h2", {}, several ? "What does this show?" : "What is this?")];
    if (several) parts.push(this.chosen());
    if (entry.label !== null && !several) parts.push(el("p", { class: "given" }, "Your label: ", el("strong", { dir: "auto" }, className(entry.label))));
    if (entry.exam) {
      parts.push(el("p", { class: "note" }, el("strong", {}, "Exam image. "), "It was drawn at random and is never used for training. The prediction is hidden so that it cannot influence the answer."));
    } else if (entry.best.length) {
      parts.push(el("p", { class: "muted" }, "Prediction"), el("ul", { class: "guesses" }, ...entry.best.map(([id, share]) => el("li", {},
        el("span", { class: "name", dir: "auto" }, className(id)), meter(share), el("span", { class: "number" }, percent(share))))));
    } else parts.push(el("p", { class: "muted" }, "No prediction yet: label at least one image of two classes."));
    if (several) parts.push(el("p", { class: "hint" }, "Press the keys of all classes it shows and ", el("kbd", {}, "Enter"), " to save them, ", el("kbd", {}, "–"), " for none of these, ", el("kbd", {}, "→"), " to skip."));
    else parts.push(el("p", { class: "hint" }, "Press the key of a class, ", el("kbd", {}, "–"), " for none of these, ", el("kbd", {}, "→"), " to skip."));
    return el("div", { class: "words" }, ...parts);
  }
}
