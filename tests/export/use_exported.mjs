// node use_exported.mjs FOLDER NODE_MODULES IMAGES: the answers for raw images, as JSON.
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [folder, modules, images] = process.argv.slice(2);
const ort = await import(pathToFileURL(`${modules}/onnxruntime-web/dist/ort.wasm.min.mjs`));
const { load } = await import(pathToFileURL(`${folder}/predict.js`));
ort.env.wasm.numThreads = 1;
const model = await load(ort, (name) => readFile(`${folder}/${name}`));
const found = [];
for (const { width, height, data } of JSON.parse(await readFile(images, "utf8")))
  found.push(await model.classify({ width, height, data: Uint8Array.from(Buffer.from(data, "base64")) }));
console.log(JSON.stringify(found));
