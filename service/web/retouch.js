// The page: its controls, and how the parts go together.

import * as marks from "./marks.js";
import { Activity, say } from "./activity.js";
import { compare } from "./compare.js";
import { Easel } from "./easel.js";
import { extension } from "./extend.js";
import { listen } from "./gestures.js";
import { History } from "./history.js";
import { finish, kept, start, teller } from "./jobs.js";
import { control, keyboardBrush, listenToKeys, plain } from "./keys.js";
import { tooMuch } from "./limits.js";
import { Picture } from "./picture.js";
import { copy, download, fileName, fileOf, stem } from "./save.js";
import { proposal, selector } from "./select.js";
import { key, patiently } from "./server.js";
import { makeTools } from "./tools.js";
import { View } from "./view.js";

const element = (id) => document.getElementById(id);
const press = (id, act) => element(id).addEventListener("click", act);
const SIDES = ["top", "right", "bottom", "left"];
const sided = (prefix) => Object.fromEntries(SIDES.map((side) => [side, element(`${prefix}-${side}`)]));

const HINTS = {
  hole: "Paint generously: a mask a little larger than the thing fills better.",
  rectangle: "Drag from corner to corner. Alt takes away.",
  lasso: "Draw round the thing. Alt takes away.",
  select: "Click a thing, or scribble on it; Alt-click what is not part of it.",
  sketch: "Draw the edges that the fill should have.",
  erase: "Takes marks away.",
};

const stage = element("stage");
const history = new History();
const view = new View(() => {
  easel.redraw();
  place();
});
const easel = new Easel(stage, view);
const activity = new Activity(() => refresh());
const state = { limits: null, models: [] };

// What is on the stage

const comparison = compare(easel, {
  slider: element("slider"), toggle: element("compare"), hold: element("hold"), line: element("divider"),
});
const extend = extension(stage, easel, {
  inputs: sided("extend"), frame: element("frame"), handles: sided("handle"),
}, () => refresh());

const place = () => {
  comparison.place();
  extend.place();
};
const frame = () => {
  if (easel.picture) view.frame({ width: stage.clientWidth, height: stage.clientHeight }, extend.content);
};
new ResizeObserver(() => (frame(), easel.redraw())).observe(stage);

/** Shows the newest state. */
const show = async () => {
  const { now, before } = history;
  const { picture } = now;
  const other = picture !== easel.picture;
  await picture.decode();
  if (history.now !== now) return;
  const resized = other && (picture.width !== easel.picture?.width || picture.height !== easel.picture?.height);
  easel.show(picture, now.marks, before);
  if (resized) view.fitted = true;
  if (other) {
    await comparison.turn(comparison.on);
    extend.reset();
    aim({ scale: element("scale").value });
  }
  Object.assign(stage.dataset, { width: picture.width, height: picture.height });
  refresh();
};

const refresh = () => {
  const { now } = history;
  const ready = Boolean(now) && !activity.busy && state.models.length > 0;
  const { width = 0, height = 0 } = now?.picture ?? {};
  const disable = (id, disabled) => (element(id).disabled = disabled);
  const painted = now && marks.marked(now.marks, "hole");
  frame();
  place();
  for (const id of ["file", "format", "quality"]) disable(id, false);
  for (const id of ["invert", "mask-file", "mask-paste", "copy", "download"]) disable(id, !ready);
  disable("copy", !ready || !globalThis.ClipboardItem);
  disable("undo", !ready || !history.undoable);
  disable("redo", !ready || !history.redoable);
  disable("clear", !ready || !now.marks.length);
  disable("again", !ready || !history.lastMarked);
  disable("mask-save", !ready || !painted);
  disable("fill", !ready || !painted);
  disable("compare", !history.before);
  disable("hold", !history.before);
  if (now) {
    const given = { bytes: now.picture.blob.size, width, height };
    const wrong = tooMuch(state.limits, given, "The picture");
    const grown = tooMuch(state.limits, { ...extend.content }, "The result");
    const enlarged = tooMuch(state.limits, aimed(), "The result") || outOfRange();
    element("extend-limit").textContent = extend.on ? grown : "";
    element("enlarge-limit").textContent = wrong || enlarged;
    if (wrong) disable("fill", true);
    disable("extend-run", !ready || !extend.any || Boolean(wrong || grown));
    disable("enlarge", !ready || Boolean(wrong || enlarged));
  }
  element("invitation").hidden = Boolean(now);
  element("zooms").hidden = !now;
  element("quality-row").hidden = element("format").value === "png";
  element("grow-value").value = `${element("grow").value} px`;
  element("feather-value").value = `${element("feather").value} px`;
  showPictures();
};

const showPictures = () => {
  const { pictures, now } = history;
  const strip = element("history");
  strip.hidden = pictures.length < 2;
  strip.replaceChildren(...pictures.map((picture, index) => {
    const button = Object.assign(document.createElement("button"), { type: "button", disabled: activity.busy });
    button.append(picture.thumbnail);
    button.setAttribute("aria-label", `Picture ${index + 1}: ${picture.from}, ${picture.width} × ${picture.height}`);
    button.title = picture.from;
    if (picture === now.picture) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => (history.go(picture), show()));
    return button;
  }));
};

// Opening

const open = async (blob) => {
  activity.cancel();
  let picture;
  try {
    picture = await Picture.read(blob, blob.name ?? "picture", "opened");
  } catch {
    say("The browser cannot read this file as a picture.", true);
    return;
  }
  await opened(picture);
  const wrong = tooMuch(state.limits, { bytes: blob.size, width: picture.width, height: picture.height }, "The picture");
  say(wrong || `${picture.name}: ${picture.width} × ${picture.height} pixels. Paint over what should go.`, Boolean(wrong));
};
const opened = async (picture) => {
  history.open(picture);
  const format = picture.blob.type.replace("image/", "");
  element("format").value = ["jpeg", "webp"].includes(format) ? format : "png";
  view.fitted = true;
  selecting.next();
  await show();
};

const images = (list) => [...list].filter(({ type }) => type.startsWith("image/"));
element("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) open(target.files[0]);
  target.value = "";
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) (event.target.closest("#masks") ? loadMask : open)(file);
});
document.addEventListener("paste", (event) => {
  const [file] = images(event.clipboardData.files);
  if (file) (document.activeElement.closest("#masks") ? loadMask : open)(file);
});

// Painting

const chosen = () => document.querySelector("input[name=tool]:checked").value;
const choose = (tool) => {
  const radio = document.querySelector(`input[name=tool][value=${tool}]`);
  if (radio.disabled) return say(`${element("inpaint-model").value} takes no sketch.`);
  radio.checked = true;
  toolChanged();
};
const toolChanged = () => {
  element("hint").textContent = HINTS[chosen()];
  element("select-row").hidden = chosen() !== "select";
  element("size-row").hidden = !["hole", "erase"].includes(chosen());
  element("cursor").hidden = true;
};
for (const radio of document.querySelectorAll("input[name=tool]")) radio.addEventListener("change", toolChanged);

let alternate = false; // whether Alt was down when the tool began
const board = {
  easel,
  layer: () => (chosen() === "sketch" ? "sketch" : chosen() === "erase" || alternate ? "erase" : "hole"),
  // A sketch is a line, whatever the brush: the networks learnt from edges a pixel or two wide.
  width: () => (chosen() === "sketch" ? Math.max(2, 2 / view.scale) : element("size").value / view.scale),
  away: () => alternate || element("outside").checked,
  marks: () => history.now.marks,
  outline: (points) =>
    element("polygon").setAttribute("points", (points ?? []).map((point) => view.toStage(point).join()).join(" ")),
};
const done = async (mark) => {
  history.mark(mark);
  await show();
  if (element("at-once").checked && mark.tool === "hole") fill();
};
const propose = (clicks, corrected) =>
  activity.run(async (signal) => {
    say("Looking for its edges …");
    const mark = await proposal(easel, clicks, element("shadow").checked, signal);
    if (signal.aborted) return;
    const { picture, marks: others } = history.now;
    history.add(picture, [...(corrected ? others.slice(0, -1) : others), mark]);
    say("Click again to add, Alt-click to take away, N for the next object.");
    await show();
  });
const tools = makeTools(board, done);
const selecting = (tools.select = selector(board, propose));

let tool = null;
const hand = {
  begin(point, event) {
    if (!history.now || activity.busy) return false;
    if (comparison.on) {
      tool = { follow: (points) => comparison.drag(points.at(-1)), end() {}, drop() {} };
      comparison.drag(point);
      return true;
    }
    alternate = event.altKey;
    tool = tools[chosen()];
    tool.begin(view.toPicture(point), event);
    return true;
  },
  follow: (points) => tool.follow(comparison.on ? points : points.map((point) => view.toPicture(point))),
  end: () => tool.end(),
  drop: () => tool.drop(),
  doubleTap(point) {
    // The first tap has painted a dot that was not meant.
    if (history.now?.marks.at(-1)?.points?.length === 1) history.step(-1);
    if (view.fitted) view.actual(point);
    else view.fit();
    show();
  },
  hover([x, y], event) {
    const cursor = element("cursor");
    const brush = ["hole", "erase"].includes(chosen());
    const keyboard = !("pointerType" in event);
    cursor.hidden = !history.now || comparison.on || event.pointerType === "touch" || (!brush && !keyboard);
    cursor.style.width = cursor.style.height = `${brush ? element("size").value : 8}px`;
    [cursor.style.left, cursor.style.top] = [`${x}px`, `${y}px`];
  },
  leave: () => (element("cursor").hidden = true),
};
listen(stage, view, hand);
keyboardBrush(stage, hand);

const step = (by) => {
  if (activity.busy || !history.now) return;
  history.step(by);
  show();
};
const clear = () => history.now?.marks.length && (history.add(history.now.picture, []), show());
const invert = () => history.now && (history.mark(marks.inversion(marks.whole(history.now.picture))), show());
const again = () => {
  const { lastMarked, now } = history;
  const [across, down] = [now.picture.width / lastMarked.picture.width, now.picture.height / lastMarked.picture.height];
  history.add(now.picture, lastMarked.marks.map((mark) => marks.moved(mark, across, down)));
  show();
};
const loadMask = async (blob) => {
  if (!history.now) return;
  try {
    history.mark(marks.mask("hole", await marks.readMask(blob), marks.whole(history.now.picture)));
    await show();
  } catch {
    say("The browser cannot read this file as a mask.", true);
  }
};
const pasteMask = async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) return await loadMask(await item.getType(type));
    }
    say("There is no picture on the clipboard.", true);
  } catch {
    say("The browser does not let the page read the clipboard; press Ctrl+V here instead.", true);
  }
};
const holeFile = () => marks.layerFile(history.now.marks, "hole", history.now.picture, "#fff", "#000");

// Work

const upload = (task, options) => {
  const form = new FormData();
  form.append("image", history.now.picture.blob, "image");
  const model = element(`${task}-model`).value;
  if (model) form.append("model", model);
  // Metadata stays with every picture on the way; the last step decides.
  for (const [name, value] of Object.entries({ keep_metadata: true, ...options })) form.append(name, value);
  return form;
};

/** Sends a form as a job and follows it; `add` puts its picture into the history. */
const work = (task, makeForm, about, add) =>
  activity.run(async (signal) => {
    await comparison.turn(false);
    say("Sending …");
    const form = await makeForm();
    const { name } = history.now.picture;
    const id = await start(task, form, { ...about, name }, signal);
    await follow(id, { ...about, name }, signal, add);
  }).then(asked);

const follow = async (id, about, signal, add) => {
  const standing = teller();
  const { answer, model, seconds } = await finish(id, signal, (job) => {
    say(standing(job));
    activity.progress(job?.windows_done, job?.windows_total);
  });
  const picture = await Picture.read(answer, about.name, `${about.made} by ${model}`, about.place);
  if (signal.aborted) return;
  await add(picture);
  say(`${picture.from}, ${seconds.toFixed(1)} s, ${picture.width} × ${picture.height} pixels.`);
};

const asked = (error) => {
  if (error?.status !== 401) return;
  element("key-row").open = true;
  element("key").focus();
};

const holes = async (options) => {
  const { picture, marks: made } = history.now;
  const form = upload("inpaint", { grow: element("grow").value, feather: element("feather").value, ...options });
  if (marks.marked(made, "hole")) form.append("mask", await holeFile(), "mask.png");
  if (marks.marked(made, "sketch") && !sketchless()) {
    form.append("sketch", await marks.layerFile(made, "sketch", picture, "#000", "#fff"), "sketch.png");
  }
  return form;
};
const filled = async (picture) => {
  history.add(picture, []);
  selecting.next();
  await show();
};
const fill = () => element("fill").disabled || work("inpaint", () => holes({}), { made: "filled" }, filled);

const extending = () => {
  const { left, top, width, height } = extend.content;
  const { picture } = history.now;
  const place = {
    left: -left / width, top: -top / height, right: (picture.width - left) / width, bottom: (picture.height - top) / height,
  };
  return work("inpaint", () => holes({ extend: extend.parameter }), { made: "extended", place }, filled);
};

const enlarge = () => {
  const { picture, marks: made } = history.now;
  return work("upscale", () => upload("upscale", target()), { made: "enlarged" }, async (larger) => {
    const [across, down] = [larger.width / picture.width, larger.height / picture.height];
    history.add(larger, made.map((mark) => marks.moved(mark, across, down)));
    await show();
  });
};

// The size to enlarge to: a factor, or one side in pixels

let wanted = { scale: 2 };
const target = () => wanted;
const aimed = () => {
  const { width, height } = history.now.picture;
  const factor = wanted.scale ?? (wanted.width ? wanted.width / width : wanted.height / height);
  const size = (side) => Math.max(1, Math.floor(side * factor + 0.5));
  return { factor, width: wanted.width ?? size(width), height: wanted.height ?? size(height) };
};
const outOfRange = () => {
  const { lowest_scale: lowest = 1, highest_scale: highest = 8 } = state.limits ?? {};
  const { factor } = aimed();
  return factor >= lowest && factor <= highest ? "" : `The factor has to be from ${lowest} to ${highest}.`;
};
const aim = (given, source) => {
  wanted = Object.fromEntries(Object.entries(given).map(([name, value]) => [name, Number(value)]));
  if (!history.now) return;
  const { factor, width, height } = aimed();
  const values = { scale: factor, factor: Math.round(factor * 100) / 100, width, height };
  for (const [id, value] of Object.entries(values)) if (id !== source) element(id).value = value;
  refresh();
};
for (const [id, name] of [["scale", "scale"], ["factor", "scale"], ["width", "width"], ["height", "height"]]) {
  element(id).addEventListener("input", ({ target: { value } }) => aim({ [name]: value }, id));
}

// Saving

const save = () => {
  if (!history.now) return;
  const { picture } = history.now;
  const options = { format: element("format").value, quality: element("quality").value, keep: element("keep").checked };
  return activity.run(async (signal) => {
    const blob = await fileOf(picture, options, signal);
    download(blob, fileName(picture, options.format));
    say(`${fileName(picture, options.format)}, ${(blob.size / 1e6).toFixed(1)} MB.`);
  }).then(asked);
};

// Controls and keys

press("undo", () => step(-1));
press("redo", () => step(1));
press("clear", clear);
press("invert", invert);
press("again", again);
press("next", () => selecting.next());
press("mask-paste", pasteMask);
press("mask-save", async () => download(await holeFile(), `${stem(history.now.picture.name)}-mask.png`));
element("mask-file").addEventListener("change", ({ target }) => {
  if (target.files[0]) loadMask(target.files[0]);
  target.value = "";
});
press("fill", fill);
press("extend-run", extending);
press("enlarge", enlarge);
press("download", save);
press("copy", () => copy(history.now.picture).then(() => say("Copied."), () => say("The browser refused.", true)));
press("zoom-in", () => view.zoom(1.5));
press("zoom-out", () => view.zoom(1 / 1.5));
press("zoom-fit", () => view.fit());
press("zoom-actual", () => view.actual());
press("keys-button", () => element("keys").showModal());
for (const id of ["grow", "feather", "format"]) element(id).addEventListener("input", refresh);
element("extend").addEventListener("toggle", ({ target }) => {
  extend.on = target.open;
  refresh();
});
element("key").value = key.get();
element("key").addEventListener("change", ({ target }) => key.set(target.value.trim()));
element("key-form").addEventListener("submit", (event) => event.preventDefault());

const grow = (factor) => {
  const size = element("size");
  size.value = factor > 1 ? Math.ceil(size.value * factor) : Math.floor(size.value * factor);
  element("cursor").style.width = element("cursor").style.height = `${size.value}px`;
};
listenToKeys(
  [
    { keys: "B", says: "brush", on: plain("b", "B"), run: () => choose("hole") },
    { keys: "R", says: "rectangle", on: plain("r", "R"), run: () => choose("rectangle") },
    { keys: "L", says: "lasso", on: plain("l", "L"), run: () => choose("lasso") },
    { keys: "O", says: "object", on: plain("o", "O"), run: () => choose("select") },
    { keys: "N", says: "next object", on: plain("n", "N"), run: () => selecting.next() },
    { keys: "S", says: "sketch", on: plain("s", "S"), run: () => choose("sketch") },
    { keys: "E", says: "erase", on: plain("e", "E"), run: () => choose("erase") },
    { keys: "[", says: "smaller brush", on: plain("["), run: () => grow(1 / 1.25) },
    { keys: "]", says: "larger brush", on: plain("]"), run: () => grow(1.25) },
    { keys: "Alt", says: "held: rectangle, lasso and object take away" },
    { keys: "← ↑ → ↓", says: "on the picture: move the brush; with shift farther" },
    { keys: "Space", says: "after arrows: put the brush down, lift it; with the pointer: drag the view" },
    { keys: "I", says: "invert the mask", on: plain("i", "I"), run: () => element("invert").click() },
    { keys: "Delete", says: "clear the marks", on: plain("Delete"), run: () => element("clear").click() },
    { keys: "Ctrl+Z", says: "undo", on: control("z"), run: () => step(-1) },
    { keys: "Ctrl+Shift+Z", says: "redo", on: control("z", true), run: () => step(1) },
    { keys: "Ctrl+Y", says: "redo", on: control("y"), run: () => step(1) },
    { keys: "Ctrl+Enter", says: "fill the hole", on: control("enter"), run: () => fill(), everywhere: true },
    { keys: "Ctrl+S", says: "download", on: control("s"), run: () => save(), everywhere: true },
    { keys: "Esc", says: "cancel what is under way", on: plain("Escape"), run: () => activity.cancel() },
    { keys: "C", says: "compare with before", on: plain("c", "C"), run: () => element("compare").click() },
    { keys: "+", says: "zoom in", on: plain("+", "="), run: () => view.zoom(1.5) },
    { keys: "-", says: "zoom out", on: plain("-"), run: () => view.zoom(1 / 1.5) },
    { keys: "0", says: "fit", on: plain("0"), run: () => view.fit() },
    { keys: "1", says: "one to one", on: plain("1"), run: () => view.actual() },
    { keys: "?", says: "this list", on: plain("?"), run: () => element("keys").showModal() },
  ],
  element("keys-list"),
);

// What the server has

const sketchless = () =>
  state.models.find(({ name }) => name === element("inpaint-model").value)?.limits?.sketch === false;
const modelChanged = () => {
  const radio = document.querySelector("input[value=sketch]");
  radio.disabled = sketchless();
  radio.closest("label").title = radio.disabled ? "This model takes no sketch" : "Sketch (S)";
  radio.nextElementSibling.textContent = radio.disabled ? "No sketch" : "Sketch";
  if (radio.disabled && radio.checked) choose("hole");
};
element("inpaint-model").addEventListener("change", modelChanged);

const called = ({ task, name, restores }) =>
  task === "inpaint" ? name : `${restores ? "Restore" : "Keep exactly"} (${name})`;

const learn = async () => {
  const failed = (error, wait) => say(`The list of models did not come: ${error.message} Trying again in ${wait} s.`, true);
  const [{ models }, limits] = await Promise.all([patiently("models", failed), patiently("limits", failed)]);
  Object.assign(state, { models, limits });
  for (const model of models) {
    // Which one enlarges by itself depends on the picture.
    const preset = model.default && model.task === "inpaint";
    element(`${model.task}-model`).add(new Option(called(model), model.name, preset, preset));
  }
  element("key-row").open = limits.keys && !key.get();
  if (element("status").classList.contains("error")) say("Pictures go to this server alone.");
  modelChanged();
};

const resume = async () => {
  const job = kept();
  if (!job) return;
  say("Finding the work that was under way …");
  await activity.run((signal) => follow(job.id, job.about, signal, opened));
};

toolChanged();
await learn();
refresh();
document.body.dataset.ready = "true";
await resume();
