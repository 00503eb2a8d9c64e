// The colour of the hole: stripes that stay visible on any picture; and the dashes of its edge.

export const COLOURS = {
  Red: [229, 72, 77],
  Green: [18, 165, 148],
  Blue: [62, 99, 221],
  Yellow: [245, 217, 10],
  Pink: [214, 64, 159],
};

/** The name of the colour that is farthest from all but the rarest of the picture's. */
export const contrasting = (thumbnail) => {
  const { data } = thumbnail.getContext("2d").getImageData(0, 0, thumbnail.width, thumbnail.height);
  const distance = (colour) => {
    const all = [];
    for (let at = 0; at < data.length; at += 4) {
      all.push(Math.hypot(...colour.map((value, channel) => value - data[at + channel])));
    }
    return all.sort((one, other) => one - other)[Math.floor(all.length / 10)];
  };
  const distances = Object.entries(COLOURS).map(([name, colour]) => [distance(colour), name]);
  return distances.sort(([one], [other]) => other - one)[0][1];
};

export const stripes = (context, name) => striped(context, 12, `rgb(${COLOURS[name].join(" ")})`, 2);

/** Moved so far; over its side they come again. */
export const dashes = (context, shift) => {
  const pattern = striped(context, 8, "#000", 2.8);
  pattern.setTransform(new DOMMatrix([1, 0, 0, 1, shift, 0]));
  return pattern;
};

/** White lines from corner to corner. */
const striped = (context, side, ground, width) => {
  const tile = new OffscreenCanvas(side, side);
  const drawing = tile.getContext("2d");
  drawing.fillStyle = ground;
  drawing.fillRect(0, 0, side, side);
  drawing.strokeStyle = "#fff";
  drawing.lineWidth = width;
  for (const shift of [-side, 0, side]) {
    drawing.moveTo(shift - 2, side + 2);
    drawing.lineTo(shift + side + 2, -2);
  }
  drawing.stroke();
  return context.createPattern(tile, "repeat");
};
