// "Label": one image after the other, the most useful first.
import { el, percent, select } from "./dom.js";
import { meter, picture } from "./grid.js";
import { attempt, className, get, keep, refit, settled, store, subscribe, undo, watch } from "./store.js";

const BATCH = 10;
const RULES = { both: "Uncertain and diverse", uncertain: "Most uncertain", diverse: "Most diverse", random: "Random", exam: "Exam only" };

export class Asking {
  constructor() {
    this.rows = [];
    this.at = 0;
    this.by = "both";
    this.rule = select("Which images to label next", Object.entries(RULES), "both", (by) => { this.by = by; this.ask(); });
    this.progress = el("span", { class: "muted" });
    this.card = el("div", { class: "card" });
    this.strip = el("ol", { class: "strip", "aria-label": "Images of this round" });
    this.node = el("div", { class: "asking" },
      el("div", { class: "toolbar" },
        el("label", {}, el("span", {}, "Label next"), this.rule), this.progress, el("span", { class: "space" }),
        el("button", { onclick: undo }, "Undo"), el("button", { class: "primary", onclick: refit }, "Refit")),
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
    const key = JSON.stringify([entry, store.state.classes.map((c) => c.name)]);
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

  words(entry) {
    const parts = [el("h2", {}, "What is this?")];
    if (entry.label !== null) parts.push(el("p", { class: "given" }, "Your label: ", el("strong", { dir: "auto" }, className(entry.label))));
    if (entry.exam) {
      parts.push(el("p", { class: "note" }, el("strong", {}, "Exam image. "), "It was drawn at random and is never used for training. The prediction is hidden so that it cannot influence the answer."));
    } else if (entry.best.length) {
      parts.push(el("p", { class: "muted" }, "Prediction"), el("ul", { class: "guesses" }, ...entry.best.map(([id, share]) => el("li", {},
        el("span", { class: "name", dir: "auto" }, className(id)), meter(share), el("span", { class: "number" }, percent(share))))));
    } else parts.push(el("p", { class: "muted" }, "No prediction yet: label at least one image of two classes."));
    parts.push(el("p", { class: "hint" }, "Press the key of a class, ", el("kbd", {}, "–"), " for none of these, ", el("kbd", {}, "→"), " to skip."));
    return el("div", { class: "words" }, ...parts);
  }
}
