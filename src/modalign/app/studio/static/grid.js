// A list of images of any length: only the tiles in view exist. Selection by mouse and keyboard.
import { el, percent } from "./dom.js";
import { className, load, store, watch } from "./store.js";

const LEAST = () => innerWidth < 600 ? 100 : 124;
const GAP = 10;
const CAPTION = 46;

export class Grid {
  constructor({ open }) {
    this.rows = [];
    this.selected = new Set();
    this.at = 0;
    this.anchor = 0;
    this.tiles = new Map();
    this.open = open;
    this.inner = el("div", { class: "grid-inner" });
    this.node = el("div", {
      class: "grid", role: "listbox", tabIndex: 0, "aria-multiselectable": "true", "aria-label": "Images",
      onscroll: () => this.draw(), onkeydown: (event) => this.key(event), onclick: (event) => this.click(event),
      ondblclick: (event) => { const i = this.index(event); if (i >= 0) this.open(this.rows[i]); },
    }, this.inner);
    new ResizeObserver(() => this.draw()).observe(this.node);
    watch(() => this.visible());
  }

  show(rows) {
    this.rows = rows;
    this.place = new Map(rows.map((row, i) => [row, i]));
    this.selected = new Set();
    this.at = this.anchor = 0;
    this.node.scrollTop = 0;
    this.draw(true);
  }

  targets() { // what a label goes to: the selection, or else the image in focus
    if (this.selected.size) return [...this.selected];
    return this.rows.length ? [this.rows[this.at]] : [];
  }

  measure() {
    const width = this.node.clientWidth - 2 * GAP;
    this.columns = Math.max(2, Math.floor((width + GAP) / (LEAST() + GAP)));
    this.size = Math.floor((width + GAP) / this.columns) - GAP;
    this.height = this.size + CAPTION + GAP;
  }

  range() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - 2);
    const last = Math.ceil((this.node.scrollTop + this.node.clientHeight) / this.height) + 2;
    return [first * this.columns, Math.min(this.rows.length, last * this.columns)];
  }

  visible() {
    if (!this.node.clientHeight || !this.rows.length) return [];
    this.measure();
    const [from, to] = this.range();
    return this.rows.slice(from, to);
  }

  draw(afresh = false) {
    if (!this.node.clientHeight) return;
    this.measure();
    this.inner.style.height = `${Math.ceil(this.rows.length / this.columns) * this.height + GAP}px`;
    const [from, to] = this.range();
    for (const [i, tile] of this.tiles) {
      if (afresh || i < from || i >= to) {
        tile.remove();
        this.tiles.delete(i);
      }
    }
    for (let i = from; i < to; i++) {
      let tile = this.tiles.get(i);
      if (!tile) {
        tile = el("div", { class: "tile", role: "option", id: `tile-${i}`, dataset: { i: String(i) } });
        this.tiles.set(i, tile);
        this.inner.append(tile);
      }
      tile.style.width = `${this.size}px`;
      tile.style.transform = `translate(${GAP + (i % this.columns) * (this.size + GAP)}px, ${GAP + Math.floor(i / this.columns) * this.height}px)`;
      this.dress(tile, i);
    }
    const missing = this.rows.slice(from, to).filter((row) => !store.entries.has(row));
    if (missing.length && !this.loading) {
      this.loading = true;
      load(missing).catch(() => {}).finally(() => { this.loading = false; this.draw(); });
    }
  }

  dress(tile, i) {
    const row = this.rows[i];
    const entry = store.entries.get(row);
    tile.setAttribute("aria-selected", String(this.selected.has(row)));
    tile.setAttribute("aria-posinset", String(i + 1));
    tile.setAttribute("aria-setsize", String(this.rows.length));
    tile.classList.toggle("at", i === this.at);
    const key = JSON.stringify(entry ?? row);
    if (tile.dataset.key === key) return;
    tile.dataset.key = key;
    tile.setAttribute("aria-label", entry ? inWords(entry) : "loading");
    tile.replaceChildren(...(entry ? content(entry) : [el("div", { class: "picture" })]));
  }

  index(event) {
    const tile = event.target.closest(".tile");
    return tile ? Number(tile.dataset.i) : -1;
  }

  click(event) {
    const i = this.index(event);
    if (i < 0) return;
    const row = this.rows[i];
    if (event.shiftKey) this.extend(i);
    else if (event.ctrlKey || event.metaKey) this.toggle(row);
    else this.selected = new Set(this.selected.size === 1 && this.selected.has(row) ? [] : [row]);
    this.at = i;
    if (!event.shiftKey) this.anchor = i;
    this.changed();
  }

  toggle(row) {
    if (!this.selected.delete(row)) this.selected.add(row);
  }

  extend(i) {
    const [from, to] = [Math.min(this.anchor, i), Math.max(this.anchor, i)];
    this.selected = new Set(this.rows.slice(from, to + 1));
  }

  key(event) {
    const page = this.columns * Math.max(1, Math.floor(this.node.clientHeight / this.height));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.rows.length && !event.altKey) {
      this.move(Math.min(this.rows.length - 1, Math.max(0, this.at + steps[event.key])), event.shiftKey);
    } else if (event.key === " ") this.toggle(this.rows[this.at]);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.selected = new Set(this.rows);
    else if (event.key === "Escape") this.selected = new Set();
    else if (event.key === "Enter" && event.altKey) this.open(this.rows[this.at]);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.changed();
  }

  move(i, extending = false) {
    if (extending) this.extend(i);
    else {
      this.anchor = i;
      this.selected = new Set();
    }
    this.at = i;
    const top = Math.floor(i / this.columns) * this.height;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    if (top + this.height > this.node.scrollTop + this.node.clientHeight) this.node.scrollTop = top + this.height + GAP - this.node.clientHeight;
  }

  changed() {
    this.draw();
    this.node.setAttribute("aria-activedescendant", `tile-${this.at}`);
    this.onselect?.();
  }
}

export function picture(entry, size = "thumb") {
  const image = el("img", {
    alt: "", loading: "lazy", decoding: "async", draggable: false,
    onload: () => image.classList.toggle("crisp", image.naturalWidth <= 64),
    src: `/${size}/${entry.content}.webp`,
  });
  return image;
}

function content(entry) {
  const [best] = entry.best;
  const sure = best ? best[1] : 0;
  const wrong = best && entry.label !== null && entry.label !== "none" && String(entry.label) !== String(said(entry));
  return [
    el("div", { class: "picture" }, picture(entry),
      entry.label !== null && el("span", { class: `badge${wrong ? " differs" : ""}`, dir: "auto" }, className(entry.label)),
      entry.exam && el("span", { class: "badge exam" }, "exam"),
      entry.gone && el("span", { class: "badge gone", title: entry.gone }, "gone")),
    el("div", { class: "caption" },
      el("span", { class: "name", dir: "auto" }, best ? className(said(entry)) : "–"),
      el("span", { class: "number" }, best ? `${Math.round(100 * sure)} %` : "")),
    meter(sure),
  ];
}

export const said = (entry) => store.state.multi_label ? entry.shown : entry.best[0]?.[0]; // what the model answers

export function meter(share) {
  const bar = el("i");
  bar.style.width = `${100 * share}%`;
  return el("div", { class: "meter", "aria-hidden": "true" }, bar);
}

export function inWords(entry) {
  const [best] = entry.best;
  const guess = best ? `predicted ${className(said(entry))}, ${percent(best[1])}` : "no prediction";
  return [entry.id, guess, entry.label === null ? "no label" : `labeled ${className(entry.label)}`, entry.gone ?? ""].filter(Boolean).join(", ");
}
