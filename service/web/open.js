// Opening pictures: one or many, chosen, dropped or pasted; and going from one of them to another.

import { say } from "./activity.js";
import { activity, album, offer, panel, show, view } from "./desk.js";
import { chosenFiles, element } from "./dom.js";
import { picturesIn } from "./dropped.js";
import { tooMuch } from "./limits.js";
import { loadMask } from "./masks.js";
import { Picture } from "./picture.js";
import { showStrip } from "./strip.js";

/** Each becomes a picture of the album; the first of them comes on the easel. */
const open = (files) =>
  activity.run(async (signal) => {
    const pictures = [];
    for (const [index, file] of files.entries()) {
      if (files.length > 1) say(`Opening ${index + 1} of ${files.length} …`);
      const picture = await Picture.read(file, file.name ?? "picture", "opened").catch(() => null);
      if (signal.aborted) return;
      if (!picture) continue;
      const history = album.add(picture);
      if (pictures.push(picture) === 1) await go(history);
      else await pictures[0].decode(); // which keeps its pixels, those of the newest two alone being held
    }
    if (!pictures.length) throw new Error("The browser cannot read this file as a picture.");
    const failed = files.length - pictures.length;
    const [{ name, size }] = pictures;
    const wrong = tooMuch(offer.limits, size, "The picture");
    const many = `${pictures.length} pictures${failed ? `; ${failed} files cannot be read as pictures` : ""}.`;
    const one = `${name}: ${size.width} × ${size.height} pixels.`;
    say(wrong || `${files.length > 1 ? many : one} Paint over what should go.`, Boolean(wrong));
  });

const go = (history) => {
  album.history = history;
  view.fitted = true;
  return show();
};

export const step = (by) => {
  if (activity.busy || album.histories.length < 2) return;
  album.step(by);
  go(album.history);
};

const close = (history) => {
  album.close(history);
  go(album.history);
};

panel(({ now }) => {
  element("invitation").hidden = Boolean(now);
  element("zooms").hidden = !now;
  const entries = album.histories.map((history) => {
    const { picture } = history.now;
    const current = history === album.history;
    const says = `${picture.name}, ${picture.width} × ${picture.height}`;
    return { picture, says, current, choose: () => go(history), close: () => close(history) };
  });
  showStrip(element("album"), entries, activity.busy);
});

const images = (list) => [...list].filter(({ type }) => type.startsWith("image/"));
const forMasks = (target) => target.closest("#masks");
chosenFiles("file", open);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  const files = await picturesIn(event.dataTransfer);
  if (files.length) forMasks(event.target) ? loadMask(files[0]) : open(files);
});
document.addEventListener("paste", (event) => {
  const files = images(event.clipboardData.files);
  if (files.length) forMasks(document.activeElement) ? loadMask(files[0]) : open(files.slice(0, 1));
});
