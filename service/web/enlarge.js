// Enlarging: by a factor, or to one side in pixels.

import * as marks from "./marks.js";
import { album, offer, panel, refresh, show } from "./desk.js";
import { disable, element, press } from "./dom.js";
import { tooMuch } from "./limits.js";
import { upload, work } from "./work.js";

let wanted = { scale: 2 };
let seen = null; // the picture that the fields speak of

const aimed = ({ width, height }) => {
  const factor = wanted.scale ?? (wanted.width ? wanted.width / width : wanted.height / height);
  const size = (side) => Math.max(1, Math.floor(side * factor + 0.5));
  return { factor, width: wanted.width ?? size(width), height: wanted.height ?? size(height) };
};
const outOfRange = ({ factor }) => {
  const { lowest_scale: lowest = 1, highest_scale: highest = 8 } = offer.limits ?? {};
  return factor >= lowest && factor <= highest ? "" : `The factor has to be from ${lowest} to ${highest}.`;
};
/** The fields follow the one that was given. */
const follow = (source) => {
  const { factor, width, height } = aimed(album.now.picture);
  const values = { scale: factor, factor: Math.round(factor * 100) / 100, width, height };
  for (const [id, value] of Object.entries(values)) if (id !== source) element(id).value = value;
};
for (const [id, name] of [["scale", "scale"], ["factor", "scale"], ["width", "width"], ["height", "height"]]) {
  element(id).addEventListener("input", ({ target: { value } }) => {
    wanted = { [name]: Number(value) };
    if (album.now) follow(id);
    refresh();
  });
}

const enlarge = () => {
  const { picture, marks: made } = album.now;
  return work("upscale", () => upload("upscale", wanted), { made: "enlarged" }, async (larger) => {
    const [across, down] = [larger.width / picture.width, larger.height / picture.height];
    album.history.add(larger, made.map((mark) => marks.moved(mark, across, down)));
    await show();
  });
};
press("enlarge", enlarge);

panel(({ now, ready }) => {
  if (!now) return;
  const { picture } = now;
  if (picture !== seen) {
    wanted = { scale: Number(element("scale").value) };
    follow("scale");
  }
  seen = picture;
  const aim = aimed(picture);
  const wrong = tooMuch(offer.limits, picture.size, "The picture") || tooMuch(offer.limits, aim, "The result") || outOfRange(aim);
  element("enlarge-limit").textContent = wrong;
  disable("enlarge", !ready || wrong);
});
