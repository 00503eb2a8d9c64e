// More picture round the picture: a frame whose four sides are dragged, or given as numbers.

const SIDES = ["top", "right", "bottom", "left"];

export const extension = (stage, easel, { inputs, frame, handles }, changed) => {
  const margin = (side) => Math.max(0, Math.round(inputs[side].valueAsNumber || 0));
  const set = (side, value) => {
    inputs[side].value = Math.max(0, Math.round(value));
    changed();
  };
  for (const side of SIDES) {
    inputs[side].addEventListener("input", changed);
    handles[side].addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.stopPropagation();
      handles[side].setPointerCapture(event.pointerId);
      const across = side === "left" || side === "right";
      const outwards = side === "left" || side === "top" ? -1 : 1;
      const from = across ? event.clientX : event.clientY;
      const before = margin(side);
      // The picture stays where it is and keeps its size while the frame is dragged.
      easel.view.fitted = false;
      handles[side].onpointermove = (move) => {
        const by = (across ? move.clientX : move.clientY) - from;
        set(side, before + (outwards * by) / easel.view.scale);
      };
      handles[side].onpointerup = handles[side].onpointercancel = () => (handles[side].onpointermove = null);
    });
  }

  const self = {
    on: false,
    get margins() {
      return Object.fromEntries(SIDES.map((side) => [side, margin(side)]));
    },
    get any() {
      return SIDES.some((side) => margin(side) > 0);
    },
    /** The whole of the extended picture, in pixels of the present one. */
    get content() {
      const { width, height } = easel.picture;
      const { top, right, bottom, left } = self.on ? self.margins : { top: 0, right: 0, bottom: 0, left: 0 };
      return { left: -left, top: -top, width: left + width + right, height: top + height + bottom };
    },
    get parameter() {
      return SIDES.map(margin).join(",");
    },
    reset() {
      for (const side of SIDES) inputs[side].value = 0;
    },
    place() {
      const shown = self.on && easel.picture;
      frame.toggleAttribute("hidden", !shown);
      for (const side of SIDES) handles[side].hidden = !shown;
      if (!shown) return;
      const { left, top, width, height } = self.content;
      const [x, y] = easel.view.toStage([left, top]);
      const size = [width * easel.view.scale, height * easel.view.scale];
      Object.entries({ x, y, width: size[0], height: size[1] }).forEach(([name, value]) => frame.setAttribute(name, value));
      const middle = [x + size[0] / 2, y + size[1] / 2];
      const ends = { top: [middle[0], y], bottom: [middle[0], y + size[1]], left: [x, middle[1]], right: [x + size[0], middle[1]] };
      for (const side of SIDES) {
        handles[side].style.left = `${Math.min(stage.clientWidth - 12, Math.max(12, ends[side][0]))}px`;
        handles[side].style.top = `${Math.min(stage.clientHeight - 12, Math.max(12, ends[side][1]))}px`;
      }
    },
  };
  return self;
};
