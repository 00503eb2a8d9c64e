// The tool that proposes an object's mask: clicks and scribbles go to the server with the part of the picture
// that is in sight, and what comes back is the newest mark. Further ones add what all of them together propose;
// those that take away ask for what they are on, so that nothing is lost but what of that is not in all's proposal.

import { mask } from "./marks.js";
import { call } from "./server.js";

const SIDE = 1024; // of what is sent
const SPACING = 12; // pixels of the screen between a scribble's points
const CLICKS = 60;

export const selector = (board, propose) => {
  let points = [];
  let away = false; // whether the points are outside the object
  let fresh = true;

  const near = ([x, y], [u, v]) => Math.hypot(x - u, y - v) * board.easel.view.scale < SPACING;
  const add = (point) => {
    if (!points.length || !near(point, points.at(-1))) points.push(point);
    board.outline(points);
  };
  return {
    /** The next click is about another object. */
    next() {
      fresh = true;
    },
    begin(point, event) {
      points = [];
      away = board.away(event);
      add(point);
    },
    follow(more) {
      more.forEach(add);
    },
    drop() {
      board.outline(null);
    },
    end() {
      board.outline(null);
      const newest = board.marks().at(-1);
      const earlier = fresh ? null : (newest?.clicks ?? null);
      fresh = false;
      if (!earlier && away) return;
      // A click takes the place of earlier ones on the same spot that said the opposite.
      const left = (earlier ?? []).filter((click) => click.away === away || points.every((point) => !near(point, click.point)));
      propose([...left, ...points.map((point) => ({ point, away }))].slice(-CLICKS), away && points);
    },
  };
};

/** The mark that the server proposes for clicks; one that erases where the newest, at `gone`, take away. */
export const proposal = async (easel, clicks, gone, shadow, signal) => {
  const box = windowOf(easel, clicks);
  const factor = Math.min(1, SIDE / Math.max(box.width, box.height));
  const canvas = new OffscreenCanvas(Math.round(box.width * factor), Math.round(box.height * factor));
  const source = easel.picture.full;
  canvas.getContext("2d").drawImage(source, box.left, box.top, box.width, box.height, 0, 0, canvas.width, canvas.height);
  const image = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  const ask = async (inside, outside, withShadow) => {
    const form = new FormData();
    form.append("image", image, "image");
    for (const [name, points] of [["inside", inside], ["outside", outside]]) {
      const chosen = points.map(([x, y]) => {
        const [column, row] = [((x - box.left) / box.width) * canvas.width, ((y - box.top) / box.height) * canvas.height];
        return `${Math.min(canvas.width - 1, Math.floor(column))},${Math.min(canvas.height - 1, Math.floor(row))}`;
      });
      if (chosen.length) form.append(name, chosen.join(" "));
    }
    form.append("shadow", withShadow);
    return alphaOf(await (await call("select", { method: "POST", body: form, signal })).blob());
  };
  const [inside, outside] = [false, true].map((wanted) =>
    clicks.filter(({ away }) => away === wanted).map(({ point }) => point),
  );
  if (!gone) return mask("hole", await ask(inside, outside, shadow), box, clicks);
  const [object, lost] = await Promise.all([inside.length ? ask(inside, outside, shadow) : null, ask(gone, inside, false)]);
  const context = lost.getContext("2d");
  context.globalCompositeOperation = "destination-out";
  if (object) context.drawImage(object, 0, 0);
  return mask("erase", lost, box, clicks);
};

/** What is in sight, and where clicks were made. */
const windowOf = ({ view, stage, picture }, clicks) => {
  const corners = [view.toPicture([0, 0]), view.toPicture([stage.clientWidth, stage.clientHeight])];
  const points = [...corners, ...clicks.map(({ point }) => point)];
  const within = (values, side) => [Math.max(0, Math.floor(Math.min(...values))), Math.min(side, Math.ceil(Math.max(...values)))];
  const [left, right] = within(points.map(([x]) => x), picture.width);
  const [top, bottom] = within(points.map(([, y]) => y), picture.height);
  return { left, top, width: Math.max(1, right - left), height: Math.max(1, bottom - top) };
};

/** A gray mask as alpha. */
const alphaOf = async (blob) => {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
  context.putImageData(pixels, 0, 0);
  return canvas;
};
