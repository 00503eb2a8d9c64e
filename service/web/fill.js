// Filling the hole, and extending the picture, which is filling what is round it.

import * as marks from "./marks.js";
import { album, extend, offer, panel, refresh, show } from "./desk.js";
import { disable, element, press } from "./dom.js";
import { tooMuch } from "./limits.js";
import { holeFile } from "./masks.js";
import { sketchless } from "./offer.js";
import { upload, work } from "./work.js";

const form = async (options) => {
  const { picture, marks: made } = album.now;
  const answer = upload("inpaint", { grow: element("grow").value, feather: element("feather").value, ...options });
  if (marks.marked(made, "hole")) answer.append("mask", await holeFile(), "mask.png");
  if (marks.marked(made, "sketch") && !sketchless()) {
    answer.append("sketch", await marks.layerFile(made, "sketch", picture, "#000", "#fff"), "sketch.png");
  }
  return answer;
};
const filled = async (picture) => {
  album.history.add(picture, []);
  await show();
};
const fill = () => work("inpaint", () => form({}), { made: "filled" }, filled);

const extending = () => {
  const { left, top, width, height } = extend.content;
  const { picture } = album.now;
  const place = {
    left: -left / width, top: -top / height, right: (picture.width - left) / width, bottom: (picture.height - top) / height,
  };
  return work("inpaint", () => form({ extend: extend.parameter }), { made: "extended", place }, filled);
};

panel(({ now, ready }) => {
  const wrong = now && tooMuch(offer.limits, now.picture.size, "The picture");
  const grown = now && tooMuch(offer.limits, extend.content, "The result");
  disable("fill", !ready || wrong || !marks.marked(now.marks, "hole"));
  disable("extend-run", !ready || !extend.any || wrong || grown);
  element("extend-limit").textContent = extend.on && grown ? grown : "";
  for (const id of ["grow", "feather"]) element(`${id}-value`).value = `${element(id).value} px`;
});

press("fill", fill);
press("extend-run", extending);
for (const id of ["grow", "feather"]) element(id).addEventListener("input", refresh);
element("extend").addEventListener("toggle", ({ target }) => {
  extend.on = target.open;
  refresh();
});
