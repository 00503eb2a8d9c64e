// The keys: one table for what they do and for the list that "?" shows; and a brush that arrow keys move.

export const listenToKeys = (table, list) => {
  for (const { keys, says } of table) {
    const term = document.createElement("dt");
    keys.split(" ").forEach((name) => term.append(Object.assign(document.createElement("kbd"), { textContent: name })));
    list.append(term, Object.assign(document.createElement("dd"), { textContent: says }));
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range], [type=radio], [type=checkbox]), select, textarea");
    const entry = table.find(({ on, run }) => run && on(event));
    if (!entry || (typing && !entry.everywhere) || document.querySelector("dialog[open]")) return;
    if (entry.run(event) === false) return;
    event.preventDefault();
  });
};

export const plain = (...names) => (event) =>
  !event.ctrlKey && !event.metaKey && !event.altKey && names.includes(event.key);
export const control = (name, shift = false) => (event) =>
  (event.ctrlKey || event.metaKey) && event.shiftKey === shift && event.key.toLowerCase() === name;

const STEP = 8; // pixels of the screen; with shift four times as far
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Arrow keys move the brush over the focused stage; space puts it down and lifts it. */
export const keyboardBrush = (stage, hand) => {
  let place = null;
  let down = false;
  const lift = () => {
    if (down) hand.end(place);
    down = false;
  };
  stage.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== stage) return;
    if (arrow) {
      const step = event.shiftKey ? 4 * STEP : STEP;
      const { clientWidth, clientHeight } = stage;
      const [x, y] = place ?? [clientWidth / 2, clientHeight / 2];
      const within = (value, side) => Math.min(side, Math.max(0, value));
      if (place) place = [within(x + arrow[0] * step, clientWidth), within(y + arrow[1] * step, clientHeight)];
      else place = [x, y];
      if (down) hand.follow([place]);
      hand.hover(place, event);
    } else if (event.key === " " && place) {
      if (event.repeat) return event.preventDefault();
      if (down) lift();
      else down = hand.begin(place, event);
    } else if (event.key === "Escape" && down) {
      down = false;
      hand.drop();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // With the pointer, space belongs to moving the view again.
  const forget = () => {
    lift();
    place = null;
  };
  stage.addEventListener("pointermove", forget);
  stage.addEventListener("blur", forget);
};
