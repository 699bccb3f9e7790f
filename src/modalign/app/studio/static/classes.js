// The list of classes: what can be answered, by click or by key.
import { count, dialog, el, select, toast } from "./dom.js";
import { attempt, post, refresh, store, subscribe } from "./store.js";

export const keyOf = (index) => index < 9 ? String(index + 1) : index === 9 ? "0" : null;

export function classList(place, assign, browse) {
  const list = el("ul");
  const total = el("span", { class: "muted" });
  const name = el("input", { type: "text", maxLength: 200, placeholder: "New class", "aria-label": "Name of a new class" });
  const add = el("form", { class: "add", onsubmit: async (event) => {
    event.preventDefault();
    if (!name.value.trim()) return;
    if (await attempt(() => post("/api/classes", { add: name.value }))) {
      name.value = "";
      name.blur();
      await refresh();
    }
  } }, name, el("button", { type: "submit" }, "Add"));
  place.append(el("div", { class: "side-head" }, el("h2", {}, "Classes"), total), list, add);

  let shown = "";
  subscribe((state) => {
    total.textContent = String(state.classes.length);
    const now = JSON.stringify(state.classes) + state.counts.none;
    if (now === shown) return;
    shown = now;
    list.replaceChildren(...state.classes.map((c, i) => item(c, keyOf(i), assign, browse)),
      item({ id: "none", name: "None of these", labeled: state.counts.none }, "-", assign, browse));
  });
}

function item(c, key, assign, browse) {
  const none = c.id === "none";
  return el("li", { class: none ? "none" : "" },
    el("button", { class: "class", dataset: { id: c.id }, title: c.name, "aria-keyshortcuts": key ?? undefined, onclick: () => assign(c.id) },
      el("kbd", { class: key ? "" : "blank", "aria-hidden": "true" }, key === "-" ? "–" : key ?? ""),
      el("span", { class: "name", dir: "auto" }, c.name),
      el("span", { class: "number" }, String(c.labeled)), el("span", { class: "sr" }, c.labeled === 1 ? " label" : " labels")),
    none ? el("button", { class: "quiet more", "aria-label": "Show images that are none of these", onclick: () => browse({ show: "none" }) }, "…")
      : el("button", { class: "quiet more", "aria-label": `Edit the class ${c.name}`, onclick: () => edit(c, browse) }, "…"));
}

function edit(c, browse) {
  const name = el("input", { type: "text", value: c.name, maxLength: 200, id: "new-name" });
  const others = store.state.classes.filter((other) => other.id !== c.id);
  const into = select("Class to merge into", others.map((other) => [other.id, other.name]), others[0]?.id, () => {});
  const change = async (body, text) => {
    if (await attempt(() => post("/api/classes", body))) {
      box.close();
      toast(text);
      await refresh();
    }
  };
  const show = (query) => { box.close(); browse(query); };
  const box = dialog("Edit class",
    el("p", { class: "muted" }, `${count(c.labeled, "label")} to learn from, predicted for ${count(c.predicted, "image")}.`),
    el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); change({ rename: [c.id, name.value] }, "Renamed."); } },
      el("label", { htmlFor: "new-name" }, "Name"), name, el("button", { type: "submit" }, "Rename")),
    others.length > 1 && el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); change({ merge: [c.id, Number(into.value)] }, "Merged."); } },
      el("span", {}, "Merge into"), into, el("button", { type: "submit" }, "Merge")),
    el("div", { class: "line" },
      el("button", { onclick: () => show({ show: "all", labeled: c.id }) }, "Show labeled"),
      el("button", { onclick: () => show({ show: "all", predicted: c.id }) }, "Show predicted")));
}

export function choose(letter, assign) { // any class by typing a part of its name
  const field = el("input", { type: "text", value: letter, "aria-label": "Part of a class name", autocomplete: "off" });
  const list = el("ul", { class: "choices", role: "listbox", "aria-label": "Classes" });
  let found = [];
  let at = 0;
  const done = (id) => { box.close(); assign(id); };
  const draw = () => {
    const part = field.value.trim().toLowerCase();
    const classes = [...store.state.classes, { id: "none", name: "none of these" }];
    found = classes.filter((c) => c.name.toLowerCase().includes(part)).sort((a, b) => b.name.toLowerCase().startsWith(part) - a.name.toLowerCase().startsWith(part)).slice(0, 50);
    at = Math.min(at, Math.max(0, found.length - 1));
    list.replaceChildren(...found.map((c, i) => el("li", { role: "option", "aria-selected": String(i === at), dir: "auto", onclick: () => done(c.id) }, c.name)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  field.addEventListener("input", () => { at = 0; draw(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = (at + (event.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(1, found.length);
      draw();
    } else if (event.key === "Enter" && found[at]) done(found[at].id);
    else return;
    event.preventDefault();
  });
  const box = dialog("Choose a class", field, list);
  draw();
  field.focus();
}

