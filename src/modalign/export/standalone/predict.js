// Classify pictures with the model in this folder, in a browser or in Node, with onnxruntime-web.
//
//   import * as ort from "onnxruntime-web";
//   const model = await load(ort, (name) => readFile(new URL(name, folder)));
//   const { name, probability } = await model.classify({ data, width, height });   // RGBA, 8 bits, upright

const SUPPORT = { bilinear: 1, bicubic: 2 };

function weight(filter, x) {
  x = Math.abs(x);
  if (filter === "bilinear") return x < 1 ? 1 - x : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1; // a = -0.5, as in Pillow and torch
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// One axis of an antialiased resize: for every output position the first input position and its weights.
function taps(from, to, filter) {
  const scale = from / to, stretch = Math.max(scale, 1), reach = SUPPORT[filter] * stretch;
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const last = Math.min(from, Math.trunc(center + reach + 0.5));
    const own = Array.from({ length: last - first }, (_, k) => weight(filter, (first + k - center + 0.5) / stretch));
    const sum = own.reduce((a, b) => a + b, 0);
    return [first, own.map((w) => w / sum)];
  });
}

function resize(pixels, width, height, wide, tall, filter) {
  if (!(filter in SUPPORT)) throw new Error(`Expected bilinear or bicubic resizing, got ${filter}.`);
  const across = taps(width, wide, filter), down = taps(height, tall, filter);
  const rows = new Uint8ClampedArray(wide * height * 3), out = new Uint8ClampedArray(wide * tall * 3);
  for (let y = 0; y < height; y++) // rounded to 8 bits in between, as in Pillow
    for (let x = 0; x < wide; x++)
      for (let c = 0; c < 3; c++) {
        const [first, own] = across[x];
        let sum = 0;
        for (let k = 0; k < own.length; k++) sum += own[k] * pixels[(y * width + first + k) * 3 + c];
        rows[(y * wide + x) * 3 + c] = Math.floor(sum + 0.5);
      }
  for (let y = 0; y < tall; y++) {
    const [first, own] = down[y];
    for (let i = 0; i < wide * 3; i++) {
      let sum = 0;
      for (let k = 0; k < own.length; k++) sum += own[k] * rows[(first + k) * wide * 3 + i];
      out[y * wide * 3 + i] = Math.floor(sum + 0.5);
    }
  }
  return out;
}

const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

export function prepare({ data, width, height }, step) {
  let pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) pixels.set(data.subarray(4 * i, 4 * i + 3), 3 * i);
  let [wide, tall] = [width, height];
  if (step.resize === "short") {
    const short = step.size[0], least = Math.min(width, height);
    [wide, tall] = [Math.trunc((short * width) / least), Math.trunc((short * height) / least)];
  } else if (step.resize === "exact") [tall, wide] = step.size;
  if (wide !== width || tall !== height) pixels = resize(pixels, width, height, wide, tall, step.resample);
  if (!step.crop) return { pixels, tall, wide };
  const [rows, columns] = step.crop, half = step.half === "down" ? (n) => Math.floor(n / 2) : (n) => even(n / 2);
  const left = half(wide - columns), top = half(tall - rows), cut = new Uint8Array(rows * columns * 3);
  for (let y = Math.max(0, -top); y < Math.min(rows, tall - top); y++)
    for (let x = Math.max(0, -left); x < Math.min(columns, wide - left); x++) {
      const at = ((y + top) * wide + x + left) * 3;
      cut.set(pixels.subarray(at, at + 3), (y * columns + x) * 3); // black beyond the picture
    }
  return { pixels: cut, tall: rows, wide: columns };
}

export async function load(ort, read, file = "model.onnx") {
  const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
  const [steps, { classes }] = [(await json("preprocess.json")).inputs, await json("labels.json")];
  const session = await ort.InferenceSession.create(new Uint8Array(await read(file)), { executionProviders: ["wasm"] });
  return {
    classes,
    async classify(image) {
      const feeds = {};
      for (const step of steps) {
        const { pixels, tall, wide } = prepare(image, step);
        feeds[step.name] = new ort.Tensor("uint8", pixels, [1, tall, wide, 3]);
      }
      const found = await session.run(feeds);
      const probabilities = Array.from(found.probabilities.data), best = probabilities.indexOf(Math.max(...probabilities));
      const unusual = found.p_values?.data[0] ?? null; // null if there were no held-out images to compare with
      return { name: classes[best], probability: probabilities[best], probabilities, unusual };
    },
  };
}
