"use strict";
(() => {
  const colors = JSON.parse(document.querySelector("main").dataset.colors);
  const on = colors.map(() => true);
  const canvases = [...document.querySelectorAll("canvas[data-mask]")];
  const labels = new WeakMap(); // canvas → label of each pixel, once the mask is decoded

  function paint(canvas) {
    const map = labels.get(canvas);
    if (!map) return;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < map.length; i++) {
      const label = map[i];
      if (label >= colors.length || !on[label]) continue;
      image.data.set(colors[label], 4 * i);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  async function decode(canvas) {
    if (labels.has(canvas)) return;
    labels.set(canvas, null);
    const mask = new Image();
    mask.src = canvas.dataset.mask;
    await mask.decode();
    canvas.width = mask.naturalWidth;
    canvas.height = mask.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(mask, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    labels.set(canvas, Uint16Array.from({ length: pixels.length / 4 }, (_, i) => pixels[4 * i] + 256 * pixels[4 * i + 1]));
    paint(canvas);
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); decode(entry.target); }
  }, { rootMargin: "800px" });
  canvases.forEach((canvas) => near.observe(canvas));
  addEventListener("beforeprint", () => canvases.forEach(decode));

  const switches = [...document.querySelectorAll("input[data-class]")];
  function apply() {
    for (const box of switches) {
      on[box.dataset.class] = box.checked;
      document.querySelectorAll(`[data-of="${box.dataset.class}"]`).forEach((part) => part.classList.toggle("off", !box.checked));
    }
    canvases.forEach(paint);
  }
  switches.forEach((box) => box.addEventListener("change", apply));
  document.querySelectorAll("button[data-all]").forEach((button) => button.addEventListener("click", () => {
    switches.forEach((box) => { box.checked = button.dataset.all === "on"; });
    apply();
  }));

  const wipe = (range) => range.closest("figure").style.setProperty("--wipe", range.value);
  const ranges = [...document.querySelectorAll("input[data-one]")];
  ranges.forEach((range) => range.addEventListener("input", () => wipe(range)));
  document.querySelector("input[data-every]").addEventListener("input", (event) => {
    ranges.forEach((range) => { range.value = event.target.value; wipe(range); });
  });
  document.querySelector("input[data-strength]").addEventListener("input", (event) => {
    document.documentElement.style.setProperty("--strength", event.target.value / 100);
  });
  document.querySelectorAll("input").forEach((input) => { // a reloaded page keeps what was chosen
    if (input.dataset.class === undefined) input.dispatchEvent(new Event("input"));
  });
  apply();
})();
