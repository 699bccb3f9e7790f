// "Accuracy": the exam, the learning curve, and the confusion matrix whose cells open the images.
import { count, el, percent, points, svg } from "./dom.js";
import { className, subscribe } from "./store.js";

const MOST_CLASSES = 24;

export class Accuracy {
  constructor({ browse, ask }) {
    this.browse = browse;
    this.node = el("div", { class: "accuracy" });
    subscribe((state) => {
      const key = JSON.stringify([state.exam, state.curve, state.cells, state.classes.map((c) => c.name), state.recent]);
      if (key === this.key) return;
      this.key = key;
      this.node.replaceChildren(result(state, ask), curve(state), this.matrix(state));
    });
  }

  matrix(state) {
    const section = el("section", {}, el("h2", {}, "Confusion on the exam"));
    if (!state.cells.length) {
      section.append(el("p", { class: "muted" }, tooFew(state) || "Label exam images to get the confusion matrix."));
      return section;
    }
    let ids = state.classes.map((c) => c.id).filter((id) => state.cells.some(([t, p]) => t === id || p === id));
    if (ids.length > MOST_CLASSES) {
      const wrong = new Map();
      for (const [t, p, n] of state.cells) if (t !== p) for (const id of [t, p]) wrong.set(id, (wrong.get(id) ?? 0) + n);
      ids = ids.sort((a, b) => (wrong.get(b) ?? 0) - (wrong.get(a) ?? 0)).slice(0, MOST_CLASSES);
      section.append(el("p", { class: "muted" }, `The ${MOST_CLASSES} classes with the most errors.`));
    }
    const number = new Map(state.cells.map(([t, p, n]) => [`${t} ${p}`, n]));
    const sums = new Map();
    for (const [t, , n] of state.cells) sums.set(t, (sums.get(t) ?? 0) + n);
    const head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "muted" }, "prediction →\nlabel ↓")),
      ...ids.map((id) => el("th", { scope: "col", dir: "auto" }, el("span", { title: className(id) }, className(id)))));
    const body = ids.map((t) => el("tr", {}, el("th", { scope: "row", dir: "auto", title: className(t) }, className(t)), ...ids.map((p) => {
      const n = number.get(`${t} ${p}`) ?? 0;
      if (!n) return el("td", {});
      const button = el("button", {
        class: t === p ? "right" : "wrong", onclick: () => this.browse({ show: "exam", labeled: t, predicted: p, order: "given" }),
        "aria-label": `${count(n, "image")} labeled ${className(t)}, predicted ${className(p)}`,
      }, String(n));
      button.style.setProperty("--share", String(Math.round(15 + 75 * n / sums.get(t))));
      button.classList.toggle("strong", n / sums.get(t) > 0.5);
      return el("td", {}, button);
    })));
    section.append(el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Confusion matrix" },
      el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...body))),
    el("p", { class: "muted" }, "A cell opens its images."));
    return section;
  }
}

export const tooFew = (state) => state.counts.reserved < state.least_shown // the exam cannot get as many labels as it is shown from
  ? `Too few images for an exam: it needs ${state.least_images}.` : "";

function result(state, ask) {
  const { exam } = state;
  const section = el("section", { class: "result" }, el("h2", {}, "Accuracy on the exam"));
  if (!exam.accuracy) {
    if (tooFew(state)) return section.append(el("p", {}, tooFew(state))), section;
    section.append(el("p", {}, `It is shown from ${state.least_shown} labeled exam images on; there ${exam.answered === 1 ? "is" : "are"} ${exam.answered}.`));
  } else {
    section.append(el("p", { class: "big" }, el("strong", {}, percent(exam.accuracy.top1)),
      el("span", {}, `95 % interval ${percent(exam.accuracy.low)} to ${percent(exam.accuracy.high)}, ${count(exam.accuracy.n, "image")}`)));
    if (exam.gain) section.append(el("p", {}, beside(exam)));
    const { recent } = state;
    if (recent) section.append(el("p", {}, `The last ${count(recent.labels, "label")}: ${points(recent.gain)} points (95 % interval ${points(recent.low)} to ${points(recent.high)}).`));
  }
  section.append(el("p", { class: "muted" }, `Every fifth requested image belongs to the exam: ${count(state.counts.reserved, "image")} drawn at random, never used for training. ` +
    `Accuracy on images that were selected for training would be biased and is not shown.${exam.none ? ` ${count(exam.none, "exam image")} of none of the classes ${exam.none === 1 ? "is" : "are"} not counted.` : ""}`));
  section.append(el("button", { onclick: ask }, "Label exam images"));
  return section;
}

function beside({ accuracy, gain }) {
  const sure = gain.significant ? "" : "; not significant";
  return `Before any label it was ${percent(accuracy.top1 - gain.difference)} on the same images: ${points(gain.difference)} points (95 % interval ${points(gain.low)} to ${points(gain.high)}${sure}).`;
}

export function curve(state, what = "Accuracy", interval = "95 % Wilson interval") {
  const section = el("section", {}, el("h2", {}, "Learning curve"));
  const data = state.curve;
  if (data.length < 2) {
    section.append(el("p", { class: "muted" }, "It needs two refits and ten labeled exam images."));
    return section;
  }
  const [W, H, left, bottom, top, right] = [innerWidth < 700 ? 380 : 640, 280, 52, 44, 12, 16];
  const most = data.at(-1).labels;
  const least = data[0].labels;
  const floor = Math.max(0, Math.floor(10 * Math.min(...data.map((d) => d.low))) / 10);
  const x = (labels) => left + (W - left - right) * (labels - least) / Math.max(1, most - least);
  const y = (share) => top + (H - top - bottom) * (1 - (share - floor) / (1 - floor));
  const line = (key, list) => list.map((d) => `${x(d.labels).toFixed(1)},${y(d[key]).toFixed(1)}`).join(" ");
  const last = data.at(-1);
  const words = `${what} on ${last.n} exam images from ${percent(data[0].accuracy)} with ${count(least, "label")} to ${percent(last.accuracy)} with ${most}.`;
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": words, class: "curve" });
  const step = floor >= 0.7 ? 0.05 : floor >= 0.4 ? 0.1 : 0.2;
  const steps = [...Array(Math.round((1 - floor) / step) + 1).keys()].map((k) => 1 - k * step).filter((share) => share > floor - 0.001);
  for (const share of steps) {
    picture.append(svg("line", { x1: left, x2: W - right, y1: y(share), y2: y(share), class: "rule" }),
      text(left - 8, y(share) + 4, "end", `${Math.round(100 * share)} %`));
  }
  const every = Math.max(1, Math.ceil(data.length / 6));
  data.filter((_, i) => i % every === 0 || i === data.length - 1).forEach((d, i, shown) => {
    if (i === shown.length - 2 && x(most) - x(d.labels) < 36) return;
    picture.append(text(x(d.labels), H - bottom + 20, "middle", String(d.labels)));
  });
  picture.append(text((left + W - right) / 2, H - 4, "middle", "labels learned from"),
    svg("polygon", { points: `${line("low", data)} ${line("high", [...data].reverse())}`, class: "band" }),
    svg("polyline", { points: line("accuracy", data), class: "line" }));
  for (const d of data) {
    const dot = svg("circle", { cx: x(d.labels), cy: y(d.accuracy), r: 4, class: "dot" });
    const title = svg("title");
    title.textContent = `${d.labels} labels, ${d.method}: ${percent(d.accuracy)} (${percent(d.low)} to ${percent(d.high)})`;
    dot.append(title);
    picture.append(dot);
  }
  section.append(picture, el("p", { class: "muted" }, `All points are measured on the same ${count(last.n, "exam image")}; the band is the ${interval}.`));
  return section;
}

function text(x, y, anchor, words) {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = words;
  return node;
}

