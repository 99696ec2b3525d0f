/* The engine of app.js that asks the server this page came from. */

async function ask(path, options) {
  const answer = await fetch(path, options).catch(() => {
    throw new Error("The server did not answer: see whether it still runs, and whether the file is too large for it.");
  });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.error ?? `The server failed (${answer.status}).`);
  return content;
}

function form(file, values = {}) {
  const body = new FormData();
  body.append("image", file, file.name || "image");
  for (const [name, value] of Object.entries(values)) body.append(name, value);
  return { method: "POST", body };
}

export const engine = {
  parallel: 4,
  documentation: "interface",
  ready: ask("health").then((about) => {
    engine.classes = about.classes;
    const unsure = about.threshold ? `, which does not know below ${(100 * about.threshold).toFixed(1)} %` : "";
    engine.title = about.title + unsure;
    if (about.nearest) engine.nearest = async (file) => (await ask("nearest", form(file))).nearest;
  }),
  async classify(file) {
    const [image] = (await ask("predict", form(file))).images;
    return { probabilities: engine.classes.map((label) => image.probabilities[label]), open: image.class === null };
  },
  async correct(file, label) {
    const { image, images } = await ask("correct", form(file, { label }));
    return `Kept as ${label}, in ${image}; ${images} kept so far.`;
  },
};
