// Elements and words. Text always goes in as text: names of files and classes are never parsed as HTML.

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name in node && name !== "list" && name !== "form") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
export const points = (difference) => {
  const size = Math.abs(100 * difference).toFixed(1);
  return size === "0.0" ? size : `${difference < 0 ? "−" : "+"}${size}`;
};
export const count = (n, noun) => `${n.toLocaleString("en-US")} ${noun}${n === 1 ? "" : "s"}`;
export const color = (index) => `oklch(64% 0.16 ${(index * 137.5 + 250) % 360})`;

let timer = 0;
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => place.classList.remove("shown"), 4000);
}

export function select(label, options, value, change) {
  const box = el("select", { "aria-label": label, onchange: () => change(box.value) });
  fill(box, options, value);
  return box;
}

export function fill(box, options, value) {
  box.replaceChildren(...options.map(([key, text]) => el("option", { value: key }, text)));
  box.value = value;
}

export function dialog(title, ...children) {
  const id = `d${Math.random().toString(36).slice(2)}`;
  const box = el("dialog", { "aria-labelledby": id },
    el("div", { class: "dialog-head" }, el("h2", { id }, title),
      el("button", { class: "quiet", "aria-label": "Close", onclick: () => box.close() }, "✕")),
    ...children);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}
