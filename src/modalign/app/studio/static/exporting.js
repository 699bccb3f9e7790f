// "Export": labels, predictions and the model.
import { count, el, toast } from "./dom.js";
import { attempt, post, store, subscribe } from "./store.js";

const TABLES = [
  ["labels.csv", "Labels", "CSV with path, label (several with ; between them) and split; the exam is marked as test. modalign reads it as a source."],
  ["predictions.csv", "Predictions", "CSV with the probability of every class for every image."],
  ["label-studio.json", "Label Studio", "Tasks with your labels, and predictions for the others."],
  ["coco.json", "COCO", "Categories, images and one annotation per label, without boxes."],
];
const WRITTEN = [
  ["sorted", "Sorted folders", "Every labeled image in a folder of its class."],
  ["model", "Model", "Fitted to all labels except those of the exam; for modalign predict and serve."],
  ["model-with-exam", "Final model", "Fitted to the exam labels too. Its accuracy cannot be measured any more; the record has the accuracy of the model without them."],
];

export class Exporting {
  constructor() {
    const folder = el("code");
    const about = el("dl", { class: "about" });
    const notes = el("ul", { class: "notes" });
    const told = el("details", {}, el("summary", {}), notes);
    const running = el("p", { class: "muted", role: "status" });
    this.node = el("div", { class: "exporting" },
      el("section", {}, el("h2", {}, "Download"), el("ul", {}, ...TABLES.map(([file, name, text]) => el("li", {},
        el("a", { class: "button", href: `/api/export/${file}`, download: file }, name), el("p", {}, text))))),
      el("section", {}, el("h2", {}, "Write to the folder of the labels"), el("ul", {}, ...WRITTEN.filter(([kind]) => kind !== "sorted" || !store.state.multi_label).map(([kind, name, text]) => el("li", {},
        el("button", { onclick: () => this.write(kind) }, name), el("p", {}, text)))),
      el("p", { class: "muted" }, "The folder of this studio: ", folder), running),
      el("section", {}, el("h2", {}, "About this session"), about, told));
    subscribe((state) => {
      folder.textContent = state.folder;
      const { counts } = state;
      const facts = [["Encoder", state.encoder], ["Images", state.images], ["Exam", `${counts.reserved} images, ${counts.exam} labeled`],
        ["Missing since the start", counts.gone], ["Labels of absent images", counts.elsewhere]];
      about.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
      told.hidden = !state.notes.length;
      told.firstChild.textContent = count(state.notes.length, "note");
      notes.replaceChildren(...state.notes.map((note) => el("li", { dir: "auto" }, note)));
      const { running: kind, errors } = state.jobs.slow;
      for (const [name, , ] of WRITTEN) {
        if (this.asked === name && kind !== name && !state.jobs.slow.waiting.includes(name)) {
          running.textContent = errors[name] ?? `Written: ${this.place}`;
          this.asked = null;
        }
      }
      if (this.asked) running.textContent = `Writing ${this.place} …`;
    });
  }

  async write(kind) {
    const answer = await attempt(() => post(`/api/export/${kind}`));
    if (!answer) return;
    this.asked = kind;
    this.place = answer.folder;
    toast("Started; the page stays usable.");
  }
}
