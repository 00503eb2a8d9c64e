// The edge of the hole, in dashes that march along it; they stand where motion is unwelcome. It is drawn when
// nothing has moved for a moment, so that painting and zooming do not wait for it.

import { dashes } from "./ink.js";

const PACE = 120; // milliseconds a step
const AROUND = [[-1.5, 0], [1.5, 0], [0, -1.5], [0, 1.5], [-1, -1], [1, -1], [-1, 1], [1, 1]];

export class Edge {
  #wanted = false;
  #drawn = false;
  #step = 0;

  constructor(context, hole) {
    this.context = context;
    this.hole = hole; // a context, too
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    setInterval(() => this.#march(), PACE);
  }

  /** Whatever was drawn is gone; `wanted` says whether there is a hole. */
  forget(wanted) {
    this.#wanted = wanted;
    this.#drawn = false;
  }

  #march() {
    if (!this.#wanted || (this.#drawn && this.still.matches)) return;
    const { context } = this;
    if (!this.#drawn) this.#outline();
    this.#drawn = true;
    this.#step += 1;
    context.globalCompositeOperation = "source-in";
    context.fillStyle = dashes(context, this.#step);
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  }

  #outline() {
    for (const [x, y] of AROUND) this.context.drawImage(this.hole.canvas, x, y);
    this.context.globalCompositeOperation = "destination-out";
    this.context.drawImage(this.hole.canvas, 0, 0);
  }
}
