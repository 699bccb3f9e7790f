// "Map": the vectors in the plane, with a lasso.
import { color, count, el, toast } from "./dom.js";
import { picture, said } from "./grid.js";
import { attempt, classIndex, className, get, load, store, subscribe } from "./store.js";

export class Map2D {
  constructor({ browse }) {
    this.chosen = [];
    this.lasso = [];
    this.canvas = el("canvas", {
      role: "img", "aria-label": "Map of the images: similar images are close together. Browse, sorted by similarity, has the same neighbors.",
      onpointerdown: (event) => this.begin(event), onpointermove: (event) => this.move(event), onpointerup: () => this.end(),
      onpointerleave: () => { this.peek.hidden = true; },
    });
    this.peek = el("div", { class: "peek", hidden: true });
    this.told = el("span", { class: "muted", role: "status" });
    this.open = el("button", { disabled: true, onclick: () => browse(this.chosen) }, "Browse the selected");
    this.legend = el("ul", { class: "legend" });
    this.node = el("div", { class: "map" },
      el("div", { class: "toolbar" }, this.told, el("span", { class: "space" }), this.open),
      el("div", { class: "plane" }, this.canvas, this.peek), this.legend);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    subscribe((state) => {
      if (this.data && (state.version !== this.data.version) && this.node.isConnected && !this.node.hidden) this.ask();
    });
  }

  targets() {
    return this.chosen;
  }

  labeled() {
    this.draw();
  }

  async ask() {
    if (this.asking) return;
    this.asking = true;
    const answer = await attempt(() => get("/api/map"));
    this.asking = false;
    if (!answer) return;
    this.data = answer.rows.length ? answer : null;
    if (!this.data) {
      this.told.textContent = "Drawing the map …";
      setTimeout(() => this.ask(), 500);
      return;
    }
    this.draw();
  }

  place(i) {
    const [x, y] = this.data.places[i];
    const pad = 16;
    return [pad + (this.width - 2 * pad) * x / 10000, pad + (this.height - 2 * pad) * (1 - y / 10000)];
  }

  draw() {
    if (!this.data || !this.canvas.clientWidth) return;
    const scale = devicePixelRatio || 1;
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.canvas.width = this.width * scale;
    this.canvas.height = this.height * scale;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    pen.scale(scale, scale);
    const marked = new Set(this.chosen);
    const size = this.data.rows.length > 2500 ? 2.2 : 3.2;
    this.data.rows.forEach((row, i) => {
      const [x, y] = this.place(i);
      const labeled = this.data.labels[i] >= 0;
      const index = classIndex(labeled ? this.data.labels[i] : this.data.predicted[i]);
      pen.fillStyle = index < 0 ? style.getPropertyValue("--muted") : color(index);
      pen.globalAlpha = this.chosen.length && !marked.has(row) ? 0.18 : labeled ? 1 : 0.62;
      pen.beginPath();
      pen.arc(x, y, labeled ? size + 1.6 : size, 0, 7);
      pen.fill();
      if (labeled) {
        pen.lineWidth = 1.6;
        pen.strokeStyle = style.getPropertyValue("--ink");
        pen.stroke();
      }
    });
    pen.globalAlpha = 1;
    if (this.lasso.length > 1) {
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.lineWidth = 1.5;
      pen.setLineDash([5, 4]);
      pen.beginPath();
      this.lasso.forEach(([x, y]) => pen.lineTo(x, y));
      pen.closePath();
      pen.stroke();
    }
    this.open.disabled = !this.chosen.length;
    const all = `${count(this.data.rows.length, "image")} by ${this.data.by}${store.state.counts.reserved ? ", without the exam" : ""}`;
    this.told.textContent = this.chosen.length ? `${count(this.chosen.length, "image")} selected; press the key of a class to label them` : `${all}. Draw around images to select them.`;
    const key = JSON.stringify(store.state.classes.map((c) => c.name));
    if (key !== this.key) {
      this.key = key;
      this.legend.replaceChildren(...store.state.classes.slice(0, 40).map((c, i) => {
        const dot = el("i");
        dot.style.background = color(i);
        return el("li", { dir: "auto" }, dot, c.name);
      }), el("li", { class: "muted" }, "outlined: labeled"));
    }
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  begin(event) {
    if (!this.data) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.lasso = [this.at(event)];
    this.chosen = [];
    this.drawing = true;
  }

  move(event) {
    if (!this.data) return;
    const here = this.at(event);
    if (this.drawing) {
      this.lasso.push(here);
      this.draw();
    } else this.look(here);
  }

  end() {
    this.drawing = false;
    if (this.lasso.length > 3) this.chosen = this.data.rows.filter((_, i) => inside(this.place(i), this.lasso));
    else this.lasso = [];
    if (this.lasso.length && !this.chosen.length) toast("There is no image inside.");
    if (!this.chosen.length) this.lasso = [];
    this.draw();
  }

  async look([x, y]) {
    let near = -1;
    let least = 100;
    this.data.rows.forEach((_, i) => {
      const [a, b] = this.place(i);
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least) [near, least] = [i, distance];
    });
    this.peek.hidden = near < 0;
    if (near < 0) return;
    const row = this.data.rows[near];
    const [a, b] = this.place(near);
    this.peek.style.transform = `translate(${Math.min(a + 12, this.width - 132)}px, ${Math.min(b + 12, this.height - 150)}px)`;
    if (this.peek.dataset.row === String(row)) return;
    this.peek.dataset.row = String(row);
    await attempt(() => load([row]));
    const entry = store.entries.get(row);
    if (entry && this.peek.dataset.row === String(row)) {
      this.peek.replaceChildren(picture(entry), el("span", { dir: "auto" }, className(entry.label ?? said(entry))));
    }
  }
}

function inside([x, y], polygon) { // crossing number
  let found = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[a, b], [c, d]] = [polygon[i], polygon[j]];
    if ((b > y) !== (d > y) && x < (c - a) * (y - b) / (d - b) + a) found = !found;
  }
  return found;
}
