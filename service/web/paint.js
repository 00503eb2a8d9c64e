// Marking by hand: the tools, what the pointer and the keyboard do with them, and what an object's clicks become.

import * as marks from "./marks.js";
import { say } from "./activity.js";
import { activity, album, comparison, easel, panel, show, stage, view } from "./desk.js";
import { element, press } from "./dom.js";
import { listen } from "./gestures.js";
import { keyboardBrush } from "./keys.js";
import { sketchless } from "./offer.js";
import { proposal, selector } from "./select.js";
import { makeTools } from "./tools.js";

const HINTS = {
  hole: "Paint generously: a mask a little larger than the thing fills better.",
  rectangle: "Drag from corner to corner. Alt takes away.",
  lasso: "Draw round the thing. Alt takes away.",
  select: "Click a thing, or scribble on it; Alt-click what is not part of it.",
  sketch: "Draw the edges that the fill should have.",
  erase: "Takes marks away.",
};

const radio = (tool) => document.querySelector(`input[name=tool][value=${tool}]`);
const chosen = () => document.querySelector("input[name=tool]:checked").value;
export const choose = (tool) => {
  if (radio(tool).disabled) return say(`${element("inpaint-model").value} takes no sketch.`);
  radio(tool).checked = true;
  toolChanged();
};
const toolChanged = () => {
  element("hint").textContent = HINTS[chosen()];
  element("select-row").hidden = chosen() !== "select";
  element("size-row").hidden = !["hole", "erase"].includes(chosen());
  element("cursor").hidden = true;
};
for (const tool of Object.keys(HINTS)) radio(tool).addEventListener("change", toolChanged);

/** Another width of the brush. */
export const resize = (factor) => {
  const size = element("size");
  size.value = factor > 1 ? Math.ceil(size.value * factor) : Math.floor(size.value * factor);
  element("cursor").style.width = element("cursor").style.height = `${size.value}px`;
};

let alternate = false; // whether Alt was down when the tool began
const board = {
  easel,
  layer: () => (chosen() === "sketch" ? "sketch" : chosen() === "erase" || alternate ? "erase" : "hole"),
  // A sketch is a line, whatever the brush: the networks learnt from edges a pixel or two wide.
  width: () => (chosen() === "sketch" ? Math.max(2, 2 / view.scale) : element("size").value / view.scale),
  away: () => alternate || element("outside").checked,
  marks: () => album.now.marks,
  outline: (points) =>
    element("polygon").setAttribute("points", (points ?? []).map((point) => view.toStage(point).join()).join(" ")),
};
const done = async (mark) => {
  album.history.mark(mark);
  await show();
  if (element("at-once").checked && mark.tool === "hole") element("fill").click();
};
const propose = (clicks, gone) =>
  activity.run(async (signal) => {
    say("Looking for its edges …");
    const mark = await proposal(easel, clicks, gone, element("shadow").checked, signal);
    if (signal.aborted) return;
    album.history.mark(mark);
    say("Click again to add, Alt-click to take away, N for the next object.");
    await show();
  });
const tools = makeTools(board, done);
const selecting = (tools.select = selector(board, propose));
export const nextObject = () => selecting.next();
press("next", nextObject);

let tool = null;
const hand = {
  begin(point, event) {
    if (!album.now || activity.busy) return false;
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
    if (album.now?.marks.at(-1)?.points?.length === 1) album.history.step(-1);
    if (view.fitted) view.actual(point);
    else view.fit();
    show();
  },
  hover([x, y], event) {
    const cursor = element("cursor");
    const brush = ["hole", "erase"].includes(chosen());
    const keyboard = !("pointerType" in event);
    cursor.hidden = !album.now || comparison.on || event.pointerType === "touch" || (!brush && !keyboard);
    cursor.style.width = cursor.style.height = `${brush ? element("size").value : 8}px`;
    [cursor.style.left, cursor.style.top] = [`${x}px`, `${y}px`];
  },
  leave: () => (element("cursor").hidden = true),
};
listen(stage, view, hand);
keyboardBrush(stage, hand);

let seen = null;
panel(({ now }) => {
  if (now?.picture !== seen) nextObject();
  seen = now?.picture;
  const sketch = radio("sketch");
  sketch.disabled = sketchless();
  sketch.closest("label").title = sketch.disabled ? "This model takes no sketch" : "Sketch (S)";
  sketch.nextElementSibling.textContent = sketch.disabled ? "No sketch" : "Sketch";
  if (sketch.disabled && sketch.checked) choose("hole");
});
toolChanged();
