// Masks as a whole: inverted, made again, taken in and given out; and the colour that they are shown in.

import * as marks from "./marks.js";
import { say } from "./activity.js";
import { album, easel, panel, show } from "./desk.js";
import { chosenFiles, disable, element, press } from "./dom.js";
import { COLOURS } from "./ink.js";
import { download, stem } from "./save.js";

export const holeFile = () => marks.layerFile(album.now.marks, "hole", album.now.picture, "#fff", "#000");

export const loadMask = async (blob) => {
  if (!album.now) return;
  try {
    album.history.mark(marks.mask("hole", await marks.readMask(blob), marks.whole(album.now.picture)));
    await show();
  } catch {
    say("The browser cannot read this file as a mask.", true);
  }
};

const paste = async () => {
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

const invert = () => {
  album.history.mark(marks.inversion(marks.whole(album.now.picture)));
  show();
};

const again = () => {
  const { now, history } = album;
  const { lastMarked } = history;
  const [across, down] = [now.picture.width / lastMarked.picture.width, now.picture.height / lastMarked.picture.height];
  history.add(now.picture, lastMarked.marks.map((mark) => marks.moved(mark, across, down)));
  show();
};

const clear = () => {
  album.history.add(album.now.picture, []);
  show();
};

panel(({ now, ready }) => {
  for (const id of ["invert", "mask-file", "mask-paste"]) disable(id, !ready);
  disable("clear", !ready || !now.marks.length);
  disable("again", !ready || !album.history.lastMarked);
  disable("mask-save", !ready || !marks.marked(now.marks, "hole"));
});

press("clear", clear);
press("invert", invert);
press("again", again);
press("mask-paste", paste);
press("mask-save", async () => download(await holeFile(), `${stem(album.now.picture.name)}-mask.png`));
chosenFiles("mask-file", ([file]) => loadMask(file));

for (const name of Object.keys(COLOURS)) element("ink").add(new Option(name));
element("ink").addEventListener("input", ({ target: { value } }) => {
  easel.colour = value || null;
  easel.redraw();
});
