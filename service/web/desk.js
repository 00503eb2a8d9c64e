// The desk: the pictures that are open, the easel with one of them, the work under way, and what the server
// offers. Every panel is told whenever something of it changes.

import { Activity } from "./activity.js";
import { Album } from "./album.js";
import { compare } from "./compare.js";
import { element } from "./dom.js";
import { Easel } from "./easel.js";
import { extension } from "./extend.js";
import { View } from "./view.js";

const SIDES = ["top", "right", "bottom", "left"];
const sided = (prefix) => Object.fromEntries(SIDES.map((side) => [side, element(`${prefix}-${side}`)]));

export const stage = element("stage");
export const album = new Album();
export const offer = { models: [], limits: null };
export const view = new View(() => {
  easel.redraw();
  place();
});
export const easel = new Easel(stage, view);
export const activity = new Activity(() => refresh());
export const comparison = compare(easel, {
  slider: element("slider"), toggle: element("compare"), hold: element("hold"), line: element("divider"),
});
export const extend = extension(stage, easel, {
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

const panels = [];

/** `told` hears what is on the easel, and whether it can be worked on. */
export const panel = (told) => panels.push(told);

export const refresh = () => {
  const { now } = album;
  const ready = Boolean(now) && !activity.busy && offer.models.length > 0;
  frame();
  place();
  for (const told of panels) told({ now, ready });
};

/** Puts the newest state on the easel. */
export const show = async () => {
  const { now, history } = album;
  const { picture } = now;
  const other = picture !== easel.picture;
  await picture.decode();
  if (album.now !== now) return;
  const resized = other && (picture.width !== easel.picture?.width || picture.height !== easel.picture?.height);
  easel.show(picture, now.marks, history.before);
  if (resized) view.fitted = true;
  if (other) {
    await comparison.turn(comparison.on);
    extend.reset();
  }
  Object.assign(stage.dataset, { width: picture.width, height: picture.height });
  refresh();
};
