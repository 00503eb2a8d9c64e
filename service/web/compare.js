// Before and after: a divider that is dragged over the picture, or the whole one before while a button is held.

export const compare = (easel, { slider, toggle, hold, line }) => {
  const draw = () => {
    easel.split = toggle.getAttribute("aria-pressed") === "true" ? slider.value / 1000 : null;
    slider.hidden = line.hidden = easel.split === null;
    easel.redraw();
    place();
  };
  const place = () => {
    if (line.hidden || !easel.picture) return;
    const [x] = easel.view.toStage([easel.picture.width * (slider.value / 1000), 0]);
    line.style.left = `${x}px`;
  };
  const look = async (whole) => {
    if (!easel.before) return;
    await easel.before.decode();
    await easel.picture.decode(); // which makes it the newest again
    if (whole !== held) return;
    if (whole) easel.split = 1;
    else draw();
    easel.redraw();
  };
  let held = false;
  const press = (whole) => {
    if (held === whole) return;
    held = whole;
    look(whole);
  };

  const self = {
    place,
    get on() {
      return toggle.getAttribute("aria-pressed") === "true";
    },
    async turn(on) {
      if (on && easel.before) {
        await easel.before.decode();
        await easel.picture.decode();
      }
      toggle.setAttribute("aria-pressed", on && Boolean(easel.before));
      draw();
    },
    /** To a place on the stage. */
    drag([x]) {
      const [column] = easel.view.toPicture([x, 0]);
      slider.value = (1000 * column) / easel.picture.width;
      draw();
    },
  };
  slider.addEventListener("input", draw);
  toggle.addEventListener("click", () => self.turn(!self.on));
  hold.addEventListener("pointerdown", () => press(true));
  hold.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && press(true));
  for (const name of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) {
    hold.addEventListener(name, () => press(false));
  }
  return self;
};
