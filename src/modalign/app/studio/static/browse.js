// "Browse": all images, sorted and filtered.
import { count, el, fill, select } from "./dom.js";
import { Grid } from "./grid.js";
import { attempt, post, store, subscribe } from "./store.js";

const SHOWS = [["all", "All images"], ["unlabeled", "Without a label"], ["labeled", "Labeled"], ["disagreement", "Label and model differ"], ["none", "None of these"], ["exam", "Exam, labeled"]];
const ORDERS = [["given", "File order"], ["uncertain", "Most uncertain"], ["confident", "Most confident"], ["suspect", "Most doubtful label"], ["similar", "Similar to the selected"], ["text", "Like the words"]];

export class Browse {
  constructor({ open }) {
    this.query = { show: "all", order: "uncertain", predicted: null, labeled: null, to: null, text: "" };
    this.grid = new Grid({ open });
    this.grid.onselect = () => this.describe();
    this.show = select("Which images", SHOWS, "all", (show) => this.ask({ show, labeled: null }));
    this.order = select("Order", ORDERS, "uncertain", (order) => this.sort(order));
    this.predicted = select("Predicted class", [["", "Any prediction"]], "", (id) => this.ask({ predicted: id === "" ? null : Number(id) }));
    this.words = el("input", { type: "search", maxLength: 300, placeholder: "Find by words", "aria-label": "Find by words", onchange: () => this.find() });
    this.told = el("span", { class: "muted", role: "status" });
    this.stale = el("button", { class: "stale", hidden: true, onclick: () => this.ask({}) }, "Predictions changed: sort again");
    this.node = el("div", { class: "browse" },
      el("div", { class: "toolbar" }, this.show, this.predicted, this.order, this.words, el("span", { class: "space" }), this.stale, this.told),
      this.grid.node);
    subscribe((state) => {
      if (state.listed && this.show.length === SHOWS.length) fill(this.show, [["listed", `From the list (${state.listed})`], ...SHOWS], "all");
      const options = [["", "Any prediction"], ...state.classes.map((c) => [String(c.id), `Predicted: ${c.name}`])];
      if (JSON.stringify(options) !== this.options) fill(this.predicted, options, this.query.predicted ?? "");
      this.options = JSON.stringify(options);
      this.words.placeholder = state.reads_text ? "Find by words" : "Find by file name";
      this.stale.hidden = !this.fit || this.fit === fitOf(state) || this.query.order === "given";
      this.grid.draw();
    });
  }

  targets() {
    return this.grid.targets();
  }

  labeled(rows) { // one image after the other: the focus moves on
    if (rows.length === 1 && this.grid.at < this.grid.rows.length - 1) this.grid.move(this.grid.at + 1);
    this.grid.changed();
  }

  sort(order) {
    if (order === "similar") {
      const [to] = this.grid.targets();
      if (to === undefined) return;
      this.ask({ order, to });
    } else if (order === "text" && !this.words.value.trim()) this.words.focus();
    else this.ask({ order });
  }

  find() {
    const text = this.words.value.trim();
    this.order.value = text ? "text" : "uncertain";
    this.ask({ order: this.order.value, text });
  }

  async ask(change) {
    Object.assign(this.query, change);
    this.among = null;
    const answer = await attempt(() => post("/api/rows", { ...this.query, only_rows: true }));
    if (!answer) return;
    this.fit = fitOf(store.state);
    this.stale.hidden = true;
    this.show.value = this.query.show;
    this.order.value = this.query.order;
    this.predicted.value = this.query.predicted ?? "";
    this.grid.show(answer.rows);
    this.describe();
  }

  only(rows) { // a selection from the map
    this.among = rows;
    this.grid.show(rows);
    this.describe();
  }

  describe() {
    const chosen = this.grid.selected.size;
    const what = this.among ? `${count(this.grid.rows.length, "image")} of the map` : count(this.grid.rows.length, "image");
    this.told.textContent = chosen ? `${chosen.toLocaleString("en-US")} of ${what} selected` : what;
    this.grid.node.classList.toggle("nothing", !this.grid.rows.length);
  }
}

const fitOf = (state) => `${state.method.name} ${state.method.labels} ${state.classes.length}`;
