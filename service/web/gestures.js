// Pointers on the stage. The left button, a pen and one finger use the tool; the middle button, space and two
// fingers move the view, the wheel and a pinch zoom it, a double tap changes between fitted and one to one.

const TAP = 300; // milliseconds
const STILL = 12; // pixels that a tap may move

export const listen = (stage, view, hand) => {
  const fingers = new Map();
  let using = null; // the pointer that uses the tool
  let panning = null;
  let pinch = null;
  let tap = null; // the newest tap's time and place
  let space = false;

  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const drop = () => {
    if (using !== null) hand.drop();
    using = null;
  };
  const span = () => {
    const [[x, y], [u, v]] = fingers.values();
    return { middle: [(x + u) / 2, (y + v) / 2], length: Math.max(1, Math.hypot(x - u, y - v)) };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, input, label")) return;
    stage.focus({ preventScroll: true });
    stage.toggleAttribute("data-pointed", true); // who points needs no ring round the stage
    const touch = event.pointerType === "touch";
    if (touch) fingers.set(event.pointerId, at(event));
    if (fingers.size > 1) {
      drop();
      pinch = fingers.size === 2 ? span() : null;
    } else if (event.button === 1 || (event.button === 0 && space)) {
      panning = { id: event.pointerId, last: at(event) };
    } else if (event.button === 0 && using === null && !panning && hand.begin(at(event), event)) {
      using = event.pointerId;
    } else if (!touch) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
  });

  stage.addEventListener("pointermove", (event) => {
    hand.hover(at(event), event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, at(event));
    if (pinch && fingers.size === 2) {
      const now = span();
      view.pan(now.middle[0] - pinch.middle[0], now.middle[1] - pinch.middle[1]);
      view.zoom(now.length / pinch.length, now.middle);
      pinch = now;
    } else if (panning?.id === event.pointerId) {
      const now = at(event);
      view.pan(now[0] - panning.last[0], now[1] - panning.last[1]);
      panning.last = now;
    } else if (using === event.pointerId) {
      const all = event.getCoalescedEvents?.() ?? [];
      hand.follow((all.length ? all : [event]).map(at));
    }
  });

  const released = (event) => {
    const first = fingers.size === 1;
    fingers.delete(event.pointerId);
    if (panning?.id === event.pointerId) panning = null;
    // The finger that stays after a pinch does not begin to paint.
    if (fingers.size < 2) pinch = null;
    if (using !== event.pointerId) return;
    if (event.type === "pointercancel") drop();
    else {
      using = null;
      if (event.pointerType === "touch" && first && twice(event)) hand.drop();
      else hand.end(at(event), event);
    }
  };
  const twice = (event) => {
    const here = { time: event.timeStamp, point: at(event) };
    const far = tap && Math.hypot(here.point[0] - tap.point[0], here.point[1] - tap.point[1]);
    const again = tap && here.time - tap.time < TAP && far < STILL;
    tap = again ? null : here;
    if (again) hand.doubleTap(here.point);
    return again;
  };
  stage.addEventListener("pointerup", released);
  stage.addEventListener("pointercancel", released);
  stage.addEventListener("pointerleave", (event) => hand.leave(event));
  stage.addEventListener("contextmenu", (event) => using !== null && event.preventDefault());

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      view.zoom(Math.exp((-event.deltaY * lines) / (event.ctrlKey ? 100 : 400)), at(event));
    },
    { passive: false },
  );

  stage.addEventListener("keydown", () => stage.toggleAttribute("data-pointed", false));
  const spacebar = (event) => {
    if (event.key !== " ") return;
    space = event.type === "keydown" && document.activeElement === stage;
    if (space) event.preventDefault();
  };
  addEventListener("keydown", spacebar);
  addEventListener("keyup", spacebar);
};
