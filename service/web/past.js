// What became of the picture on the easel: its states back and forth, and every picture made of it.

import { activity, album, panel, show } from "./desk.js";
import { disable, element, press } from "./dom.js";
import { showStrip } from "./strip.js";

export const step = (by) => {
  if (activity.busy || !album.now) return;
  album.history.step(by);
  show();
};
press("undo", () => step(-1));
press("redo", () => step(1));

panel(({ now, ready }) => {
  const { history } = album;
  const entries = history.pictures.map((picture, index) => {
    const says = `Picture ${index + 1}: ${picture.from}, ${picture.width} × ${picture.height}`;
    return { picture, says, current: picture === now.picture, choose: () => (history.go(picture), show()) };
  });
  showStrip(element("history"), entries, activity.busy);
  disable("undo", !ready || !history.undoable);
  disable("redo", !ready || !history.redoable);
  for (const id of ["compare", "hold"]) disable(id, !history.before);
});
