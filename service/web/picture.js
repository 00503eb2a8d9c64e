// A picture: its bytes as they came, and pixels to draw for as long as they are needed.

const SMALL = 2048; // longest side of the copy that is drawn wherever it is sharp enough
const THUMBNAIL = 72;
const HELD = 2; // decoded at any one time: the picture on the easel and the one before it
const held = [];

export class Picture {
  /** `from` says how it was made, `place` where in it the picture before lies, in shares of its sides. */
  constructor(blob, name, from, place = { left: 0, top: 0, right: 1, bottom: 1 }) {
    Object.assign(this, { blob, name, from, place, full: null, small: null, thumbnail: null });
  }

  static async read(...parts) {
    const picture = new Picture(...parts);
    await picture.decode();
    return picture;
  }

  async decode() {
    if (!this.full) {
      this.full = await createImageBitmap(this.blob);
      this.width = this.full.width;
      this.height = this.full.height;
      const longest = Math.max(this.width, this.height);
      this.small = longest > SMALL ? await reduced(this.full, SMALL / longest) : this.full;
      this.thumbnail ??= thumbnail(this.small);
    }
    held.splice(0, held.length, this, ...held.filter((other) => other !== this));
    held.splice(HELD).forEach((other) => other.release());
  }

  release() {
    this.full?.close();
    this.small?.close();
    this.full = this.small = null;
  }

  /** What a server counts. */
  get size() {
    return { bytes: this.blob.size, width: this.width, height: this.height };
  }

  /** The pixels that suffice at `scale`. */
  pixels(scale) {
    return scale * this.width <= this.small.width ? this.small : this.full;
  }
}

const reduced = (bitmap, factor) =>
  createImageBitmap(bitmap, {
    resizeWidth: Math.max(1, Math.round(bitmap.width * factor)),
    resizeHeight: Math.max(1, Math.round(bitmap.height * factor)),
    resizeQuality: "high",
  });

const thumbnail = (bitmap) => {
  const factor = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * factor));
  canvas.height = Math.max(1, Math.round(bitmap.height * factor));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
};
