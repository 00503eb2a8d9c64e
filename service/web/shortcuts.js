// What the keys do, and the buttons that only they repeat.

import { activity, view } from "./desk.js";
import { element, press } from "./dom.js";
import { control, listenToKeys, plain } from "./keys.js";
import { step as toPicture } from "./open.js";
import { choose, nextObject, resize } from "./paint.js";
import { step } from "./past.js";
import { save } from "./save.js";

const toAnother = ({ key }) => toPicture(key === "PageUp" ? -1 : 1);
const click = (id) => () => element(id).click();
press("zoom-in", () => view.zoom(1.5));
press("zoom-out", () => view.zoom(1 / 1.5));
press("zoom-fit", () => view.fit());
press("zoom-actual", () => view.actual());
press("keys-button", () => element("keys").showModal());

listenToKeys(
  [
    { keys: "B", says: "brush", on: plain("b", "B"), run: () => choose("hole") },
    { keys: "R", says: "rectangle", on: plain("r", "R"), run: () => choose("rectangle") },
    { keys: "L", says: "lasso", on: plain("l", "L"), run: () => choose("lasso") },
    { keys: "O", says: "object", on: plain("o", "O"), run: () => choose("select") },
    { keys: "N", says: "next object", on: plain("n", "N"), run: nextObject },
    { keys: "S", says: "sketch", on: plain("s", "S"), run: () => choose("sketch") },
    { keys: "E", says: "erase", on: plain("e", "E"), run: () => choose("erase") },
    { keys: "[", says: "smaller brush", on: plain("["), run: () => resize(1 / 1.25) },
    { keys: "]", says: "larger brush", on: plain("]"), run: () => resize(1.25) },
    { keys: "Alt", says: "held: rectangle, lasso and object take away" },
    { keys: "← ↑ → ↓", says: "on the picture: move the brush; with shift farther" },
    { keys: "Space", says: "after arrows: put the brush down, lift it; with the pointer: drag the view" },
    { keys: "I", says: "invert the mask", on: plain("i", "I"), run: click("invert") },
    { keys: "Delete", says: "clear the marks", on: plain("Delete"), run: click("clear") },
    { keys: "Ctrl+Z", says: "undo", on: control("z"), run: () => step(-1) },
    { keys: "Ctrl+Shift+Z", says: "redo", on: control("z", true), run: () => step(1) },
    { keys: "Ctrl+Y", says: "redo", on: control("y"), run: () => step(1) },
    { keys: "Ctrl+Enter", says: "fill the hole", on: control("enter"), run: click("fill"), everywhere: true },
    { keys: "Ctrl+S", says: "download", on: control("s"), run: () => save(), everywhere: true },
    { keys: "Esc", says: "cancel what is under way", on: plain("Escape"), run: () => activity.cancel() },
    { keys: "C", says: "compare with before", on: plain("c", "C"), run: click("compare") },
    { keys: "PageUp PageDown", says: "to another open picture", on: plain("PageUp", "PageDown"), run: toAnother },
    { keys: "+", says: "zoom in", on: plain("+", "="), run: () => view.zoom(1.5) },
    { keys: "-", says: "zoom out", on: plain("-"), run: () => view.zoom(1 / 1.5) },
    { keys: "0", says: "fit", on: plain("0"), run: () => view.fit() },
    { keys: "1", says: "one to one", on: plain("1"), run: () => view.actual() },
    { keys: "?", says: "this list", on: plain("?"), run: () => element("keys").showModal() },
  ],
  element("keys-list"),
);
