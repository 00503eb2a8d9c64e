// What is on the easel and how it came there: a line of states, each a picture with its marks. Nothing in a
// state is ever changed, so that undo is a step along the line.

const PICTURES = 24; // older ones are let go

export class History {
  #states = [];
  #at = -1;

  get now() {
    return this.#states[this.#at] ?? null;
  }

  get undoable() {
    return this.#at > 0;
  }

  get redoable() {
    return this.#at + 1 < this.#states.length;
  }

  /** Every picture once, in the order in which they were made. */
  get pictures() {
    return [...new Set(this.#states.map((state) => state.picture))];
  }

  /** The picture that the one on the easel was made from. */
  get before() {
    return this.#past().findLast((state) => state.picture !== this.now?.picture)?.picture ?? null;
  }

  /** The newest state before this one that has marks, on whatever picture. */
  get lastMarked() {
    return this.#past().findLast((state) => state.picture !== this.now?.picture && state.marks.length) ?? null;
  }

  open(picture) {
    this.#states = [{ picture, marks: [] }];
    this.#at = 0;
  }

  add(picture, marks) {
    this.#states.splice(this.#at + 1, Infinity, { picture, marks });
    const kept = new Set(this.pictures.slice(-PICTURES));
    this.#states = this.#states.filter((state) => kept.has(state.picture));
    this.#at = this.#states.length - 1;
  }

  mark(mark) {
    this.add(this.now.picture, [...this.now.marks, mark]);
  }

  step(by) {
    this.#at = Math.min(this.#states.length - 1, Math.max(0, this.#at + by));
  }

  /** To the newest state of a picture. */
  go(picture) {
    this.#at = this.#states.findLastIndex((state) => state.picture === picture);
  }

  #past() {
    return this.#states.slice(0, Math.max(0, this.#at));
  }
}
