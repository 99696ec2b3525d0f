/* The engine of app.js that needs no server: the model runs in the browser, in worker.js, and images go nowhere. */

const MOST_PIXELS = 8192 * 6144; // telephones of 50 megapixels

const WHOLE = "see that all files of this folder are on the server";

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
const corrected = new Map();
let asked = 0;

const died = new Promise((_, broken) => {
  worker.onerror = () => broken(new Error(`The model cannot be run here: ${WHOLE}, or try a newer browser.`));
});
died.catch(() => {}); // told by whoever asks

function ask(question) {
  const answered = new Promise((kept, broken) => {
    waiting.set(asked, { kept, broken });
    worker.postMessage({ number: asked++, ...question });
  });
  return Promise.race([answered, died]);
}

worker.onmessage = ({ data: { number, answer, error, loaded } }) => {
  if (loaded) return engine.loading?.(loaded / engine.bytes);
  const { kept, broken } = waiting.get(number);
  waiting.delete(number);
  error ? broken(new Error(error)) : kept(answer);
};

async function begin() {
  const about = await fetch("about.json", { cache: "no-cache" });
  if (!about.ok) throw new Error(`about.json is not there: ${WHOLE}.`);
  Object.assign(engine, await about.json());
  await ask({ model: "model.onnx" });
}

/** Refuses an image that is too large before it is decoded: browsers know an image's size first. */
async function check(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  await new Promise((kept) => (image.onload = image.onerror = kept));
  URL.revokeObjectURL(image.src);
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width * height > MOST_PIXELS)
    throw new Error(`Too many pixels (${width} × ${height}, over ${Math.floor(MOST_PIXELS / 1e6)} million): make it smaller.`);
}

function quoted(value) {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

export const engine = {
  ready: begin(),
  async classify(file) {
    await check(file);
    return { probabilities: await ask({ image: file }), open: false };
  },
  async correct(file, label) {
    corrected.set(file.webkitRelativePath || file.name || "pasted image", label);
    return `Kept as ${label}.`;
  },
  corrections() {
    const rows = [["path", "label"], ...corrected].map((row) => row.map(quoted).join(","));
    return new Blob([rows.join("\n"), "\n"], { type: "text/csv" });
  },
};
