/* Runs the model beside the page, so that the page answers meanwhile: images in, probabilities out, one after another. */

import * as ort from "./ort.wasm.bundle.min.mjs";

const BAND = 512; // rows of pixels that are copied at once
const SIDE = 400; // pixels of a blank image

ort.env.wasm.numThreads = 1; // more would need headers that few servers send

/** The model's bytes; told is called with how many there are so far. */
async function download(url, told) {
  const response = await fetch(url, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  const parts = [];
  const reader = response.body.getReader();
  for (let loaded = 0, part; !(part = await reader.read()).done; told(loaded)) {
    parts.push(part.value);
    loaded += part.value.length;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Pixels as features were made of them: upright, the file's numbers whatever its colour space, transparency on white. */
async function pixels(image) {
  const bitmap = await createImageBitmap(image, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, Math.min(BAND, height)).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  const rgb = new Uint8Array(3 * width * height);
  for (let top = 0, at = 0; top < height; top += BAND) {
    const rows = Math.min(BAND, height - top);
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, rows);
    for (let from = 0; from < data.length; from += 4) {
      rgb[at++] = data[from];
      rgb[at++] = data[from + 1];
      rgb[at++] = data[from + 2];
    }
  }
  bitmap.close();
  return tensor(rgb, height, width);
}

function tensor(rgb, height, width) {
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

async function start(model) {
  const bytes = await download(model, (loaded) => postMessage({ loaded }));
  session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  await session.run({ images: tensor(new Uint8Array(3 * SIDE * SIDE), SIDE, SIDE) }); // the first run takes the longest
}

async function classify(image) {
  const images = await pixels(image).catch(() => broken("This is no image that this browser reads: try JPEG or PNG."));
  const { probabilities } = await session.run({ images }).catch(({ message }) =>
    broken(`The model failed on it (${message}): load the page again, and try a smaller image.`),
  );
  return [...probabilities.data];
}

function broken(sentence) {
  throw new Error(sentence);
}

async function answer({ number, model, image }) {
  try {
    if (model)
      await start(model).catch(({ message }) => broken(`The model cannot be run (${message}): load the page again.`));
    postMessage({ number, answer: image && (await classify(image)) });
  } catch ({ message }) {
    postMessage({ number, error: message });
  }
}

let session;
let last;

onmessage = ({ data }) => {
  last = Promise.resolve(last).then(() => answer(data));
};
