/* The page: images in, classes out. All it knows of a classifier it asks `engine` for, which a server's engine.js has or
   one that computes in the browser:

   ready                 a promise, kept once it can classify; what it breaks with has a sentence as its message
   classes, title        (from `ready` on) the names in the order of probabilities, and what it is in a few words
   parallel              how many images it takes at a time; 1 where absent
   classify(file)        a promise of {probabilities, open}: a number for each class, and whether it is too unsure to name
                         one; what it breaks with has a sentence as its message, shown beside the image
   nearest(file)         where there is one (from `ready` on), a promise of [{name, label, picture}]: training images, the
                         nearest first, `picture` an address
   correct(file, label)  where there is one (from `ready` on), a promise of a sentence: the image is kept as one of `label`
   corrections()         where there is one, a Blob: what was kept so far as CSV, to download
   loading(share)        set here: called, by an engine that loads for long, with how much of it is there
   documentation         where there is one, the address of a page on the interface */
import { engine } from "./engine.js";

const SHOWN = 3;
const IMAGE = /\.(jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|hei[cf]|avif|jp2|j2k|p[pgb]m|tga|ico)$/i;
const $ = (selector, within = document) => within.querySelector(selector);
const results = $("#results"), working = $("#working"), status = $("#status"), template = $("#result");
const queue = [];
let asked = 0, done = 0, unread = 0, running = 0;

/** Takes files in; of a folder's those alone that are called as images are. */
function take(files, fromFolder = false) {
  const images = [...files].filter((file) => !fromFolder || IMAGE.test(file.name));
  if (!images.length) return say(files.length ? "No images are in that folder." : "No image came: drop, paste or choose one.");
  if (!running) asked = done = unread = 0;
  asked += images.length;
  queue.push(...images);
  while (queue.length && running < (engine.parallel ?? 1)) work();
  tell();
}

async function work() {
  running++;
  for (let file; (file = queue.shift()); tell()) {
    await show(file);
    done++;
  }
  running--;
  tell();
}

function tell() {
  working.hidden = !running;
  Object.assign($("progress"), { value: done, max: Math.max(asked, 1) });
  const failed = unread ? `, ${unread} of them could not be read` : "";
  say(running ? `${done} of ${asked} images …` : `${done} ${done === 1 ? "image" : "images"} done${failed}.`);
}

function say(sentence) {
  status.textContent = sentence;
}

/** Classifies a file and puts what came of it before the others. */
async function show(file) {
  const item = template.content.cloneNode(true).firstElementChild;
  const name = file.webkitRelativePath || file.name || "pasted image";
  $(".name", item).textContent = name;
  picture($("img", item), file, name);
  try {
    answer(item, file, await engine.classify(file));
  } catch (error) {
    unread++;
    item.classList.add("failed");
    $(".answer", item).textContent = error.message;
  }
  results.prepend(item);
}

/** Shows a file small; the browser need not keep it in its own size. What it cannot show, a HEIC say, has no picture. */
async function picture(image, file, name) {
  image.alt = `Preview of ${name}`;
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: 224, resizeQuality: "medium" });
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    image.src = canvas.toDataURL("image/webp");
  } catch {
    image.hidden = true;
  }
}

function answer(item, file, { probabilities, open }) {
  const ranked = engine.classes.map((label, number) => ({ label, share: probabilities[number] }));
  ranked.sort((one, other) => other.share - one.share);
  const [best] = ranked;
  $(".answer", item).textContent = open ? "I don't know" : best.label;
  item.classList.toggle("open", Boolean(open));
  $(".shares", item).replaceChildren(...ranked.slice(0, SHOWN).map(bar));
  $(".all", item).hidden = ranked.length <= SHOWN;
  $(".all .shares", item).replaceChildren(...ranked.slice(SHOWN).map(bar));
  if (engine.nearest) alike($(".alike", item), file);
  if (engine.correct) correction($(".correct", item), file, best.label);
}

function bar({ label, share }) {
  const row = element("li", element("span", label), element("b", percent(share)), element("i"));
  row.lastChild.style.width = `${100 * share}%`;
  return row;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** Asks for the training images most like a file once somebody wants to see them. */
function alike(details, file) {
  details.hidden = false;
  const list = $("ol", details);
  details.addEventListener("toggle", async () => {
    list.replaceChildren(element("li", "Looking …"));
    try {
      list.replaceChildren(...(await engine.nearest(file)).map(neighbour));
    } catch (error) {
      list.replaceChildren(element("li", error.message));
    }
  }, { once: true });
}

function neighbour({ name, label, picture }) {
  const image = Object.assign(document.createElement("img"), { src: picture, alt: "" });
  return element("li", image, element("b", label), element("span", name));
}

function correction(form, file, best) {
  form.hidden = false;
  const choice = $("select", form), said = $("span", form);
  choice.append(...engine.classes.map((label) => new Option(label, label, label === best, label === best)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    said.textContent = "Keeping …";
    said.textContent = await engine.correct(file, choice.value).catch((error) => error.message);
    if (engine.corrections) offer($("#corrections"), engine.corrections());
  });
}

function offer(link, blob) {
  URL.revokeObjectURL(link.href);
  Object.assign(link, { href: URL.createObjectURL(blob), hidden: false });
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

/** All files of what was dropped, folders looked through; files say where they are in these, as chosen ones do. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return take(transfer.files);
  take((await Promise.all(entries.map(below))).flat(), true);
}

async function below(entry) {
  if (entry.isFile) {
    const file = await new Promise((kept, broken) => entry.file(kept, broken));
    return [Object.defineProperty(file, "webkitRelativePath", { value: entry.fullPath.slice(1) })];
  }
  const reader = entry.createReader(), found = [];
  for (let some; (some = await new Promise((kept, broken) => reader.readEntries(kept, broken))).length; ) found.push(...some);
  return (await Promise.all(found.map(below))).flat();
}

function listen() {
  for (const button of document.querySelectorAll("[data-opens]")) {
    const input = $(`#${button.dataset.opens}`);
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      take(input.files, input.webkitdirectory);
      input.value = "";
    });
  }
  $("#stop").addEventListener("click", () => {
    asked -= queue.length;
    queue.length = 0;
  });
  addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
  const drop = $("#drop");
  for (const kind of ["dragover", "dragleave", "drop"])
    addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  addEventListener("drop", (event) => dropped(event.dataTransfer));
}

async function begin() {
  engine.loading = (share) => ($("#about").textContent = `Loading … ${Math.floor(100 * share)} %`);
  try {
    await engine.ready;
  } catch (error) {
    $("#about").textContent = error.message;
    return;
  }
  $("#about").textContent = `${engine.title}. It tells ${engine.classes.length} classes apart: ${engine.classes.slice(0, 30).join(", ")}${engine.classes.length > 30 ? " …" : ""}.`;
  if (engine.documentation) Object.assign($("#documentation"), { href: engine.documentation, hidden: false });
  listen();
  document.body.classList.add("ready");
}

begin();
