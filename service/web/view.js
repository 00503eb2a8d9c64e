// Where on the stage the picture lies and how large: `scale` pixels of the stage to one of the picture.

const MARGIN = 14;
const LARGEST = 32;
const FITTED = 3; // a small picture is not blown up to the whole stage
const NEAR = 0.25; // a picture may be made so much smaller than fits

export class View {
  scale = 1;
  x = 0;
  y = 0;
  fitted = true;
  #stage = { width: 1, height: 1 };
  #content = { left: 0, top: 0, width: 1, height: 1 };

  constructor(changed) {
    this.changed = changed;
  }

  /** The stage in CSS pixels, and the part of picture space to be seen in it. */
  frame(stage, content) {
    this.#stage = stage;
    this.#content = content;
    if (this.fitted) this.fit();
    else this.#moved();
  }

  get fitting() {
    const { width, height } = this.#stage;
    const room = (side) => Math.max(1, side - 2 * MARGIN);
    return Math.min(room(width) / this.#content.width, room(height) / this.#content.height);
  }

  get middle() {
    return [this.#stage.width / 2, this.#stage.height / 2];
  }

  fit() {
    const { left, top, width, height } = this.#content;
    this.scale = Math.min(this.fitting, FITTED);
    this.x = (this.#stage.width - width * this.scale) / 2 - left * this.scale;
    this.y = (this.#stage.height - height * this.scale) / 2 - top * this.scale;
    this.fitted = true;
    this.changed();
  }

  /** One pixel of the picture to one of the screen. */
  actual(at = this.middle) {
    this.zoom(1 / devicePixelRatio / this.scale, at);
  }

  zoom(factor, [x, y] = this.middle) {
    const smallest = Math.min(1, this.fitting) * NEAR;
    const scale = Math.min(LARGEST, Math.max(smallest, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#moved();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.#moved();
  }

  toPicture([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toStage([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  #moved() {
    this.fitted = false;
    const { left, top, width, height } = this.#content;
    // Some of the picture stays in sight.
    const within = (at, start, side, stage) => {
      const seen = Math.min(64, side * this.scale);
      return Math.min(stage - seen - start * this.scale, Math.max(seen - (start + side) * this.scale, at));
    };
    this.x = within(this.x, left, width, this.#stage.width);
    this.y = within(this.y, top, height, this.#stage.height);
    this.changed();
  }
}
