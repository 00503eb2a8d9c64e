// Draws the picture and its marks at the size of the screen. While a stroke is painted only its newest piece is
// drawn; everything is drawn anew when the picture, the marks or the view change.

import { Edge } from "./edge.js";
import { contrasting, stripes } from "./ink.js";
import { drawLayer, drawStroke, marked } from "./marks.js";

const PIXELATED = 3; // from this zoom on pixels are shown as squares

export class Easel {
  picture = null;
  before = null;
  marks = [];
  split = null; // the share of the picture, from the left, that shows the one before
  colour = null; // of the hole, by name; null is the one that contrasts with the picture
  #due = false;

  constructor(stage, view) {
    this.view = view;
    this.stage = stage;
    [this.ground, this.hole, this.sketch, this.rim] = ["picture", "hole", "sketch", "edge"].map((id) =>
      document.getElementById(id).getContext("2d"),
    );
    this.edge = new Edge(this.rim, this.hole);
  }

  show(picture, marks, before) {
    if (picture !== this.picture) this.contrast = contrasting(picture.thumbnail);
    Object.assign(this, { picture, marks, before });
    this.redraw();
  }

  redraw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  /** Draws what came to an unfinished stroke after its first points. */
  follow(mark, first) {
    for (const context of this.#contexts(mark)) {
      this.#place(context);
      context.globalCompositeOperation = mark.tool === "erase" ? "destination-out" : "source-over";
      context.strokeStyle = this.#ink(context);
      drawStroke(context, mark, first);
    }
  }

  #contexts({ tool }) {
    return { hole: [this.hole], sketch: [this.sketch], erase: [this.hole, this.sketch] }[tool];
  }

  #ink(context) {
    if (context === this.sketch) return "#111";
    const pattern = stripes(context, this.colour ?? this.contrast);
    // The stripes belong to the screen, so that zooming does not make them coarse.
    pattern.setTransform(context.getTransform().inverse());
    return pattern;
  }

  #place(context) {
    const { scale, x, y } = this.view;
    const ratio = devicePixelRatio;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  }

  #draw() {
    const width = Math.round(this.stage.clientWidth * devicePixelRatio);
    const height = Math.round(this.stage.clientHeight * devicePixelRatio);
    for (const context of [this.ground, this.hole, this.sketch, this.rim]) {
      const { canvas } = context;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      this.#clear(context);
    }
    this.edge.forget(this.split === null && marked(this.marks, "hole"));
    if (!this.picture?.full) return;
    this.#drawPicture(this.picture, { left: 0, top: 0, right: 1, bottom: 1 });
    if (this.split !== null && this.before?.full) this.#drawBefore();
    if (this.split !== null) return;
    for (const [context, layer] of [[this.hole, "hole"], [this.sketch, "sketch"]]) {
      context.save();
      this.#place(context);
      context.beginPath();
      context.rect(0, 0, this.picture.width, this.picture.height);
      context.clip();
      context.fillStyle = context.strokeStyle = "#111";
      drawLayer(context, this.marks, layer);
      context.restore();
    }
    this.#place(this.hole);
    this.hole.fillStyle = this.#ink(this.hole);
    this.hole.globalCompositeOperation = "source-in";
    this.hole.fillRect(0, 0, this.picture.width, this.picture.height);
  }

  #drawPicture(picture, { left, top, right, bottom }) {
    const { width, height } = this.picture;
    const context = this.ground;
    this.#place(context);
    const shown = ((right - left) * width * this.view.scale * devicePixelRatio) / picture.width;
    context.imageSmoothingEnabled = shown < PIXELATED;
    context.imageSmoothingQuality = shown < 1 ? "high" : "low";
    const box = [left * width, top * height, (right - left) * width, (bottom - top) * height];
    context.drawImage(picture.pixels(shown), ...box);
  }

  #drawBefore() {
    const context = this.ground;
    context.save();
    this.#place(context);
    context.beginPath();
    context.rect(0, 0, this.picture.width * this.split, this.picture.height);
    context.clip();
    context.clearRect(0, 0, this.picture.width, this.picture.height);
    this.#drawPicture(this.before, this.picture.place);
    context.restore();
  }

  #clear(context) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  }
}
