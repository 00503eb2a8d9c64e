// The pictures that are open, each with a history of its own; one of them is on the easel.

import { History } from "./history.js";

export class Album {
  histories = [];
  history = new History(); // of the picture on the easel

  /** What is on the easel; null while nothing is open. */
  get now() {
    return this.history.now;
  }

  /** One more, which comes on the easel where it is the first. */
  add(picture) {
    const history = new History();
    history.open(picture);
    this.histories.push(history);
    if (!this.now) this.history = history;
    return history;
  }

  /** To the one that lies so many further, round about. */
  step(by) {
    const { length } = this.histories;
    if (length) this.history = this.histories[(this.histories.indexOf(this.history) + by + length) % length];
  }

  close(history) {
    const at = this.histories.indexOf(history);
    this.histories.splice(at, 1);
    if (history === this.history) this.history = this.histories[Math.max(0, at - 1)] ?? new History();
  }
}
