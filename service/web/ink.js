// The colour of the hole: stripes that stay visible on any picture.

const COLOURS = [
  [229, 72, 77],
  [18, 165, 148],
  [62, 99, 221],
  [245, 217, 10],
  [214, 64, 159],
];

/** The colour that is farthest from all but the rarest of the picture's. */
export const contrasting = (thumbnail) => {
  const { data } = thumbnail.getContext("2d").getImageData(0, 0, thumbnail.width, thumbnail.height);
  const distance = (colour) => {
    const all = [];
    for (let at = 0; at < data.length; at += 4) {
      all.push(Math.hypot(...colour.map((value, channel) => value - data[at + channel])));
    }
    return all.sort((one, other) => one - other)[Math.floor(all.length / 10)];
  };
  const distances = COLOURS.map(distance);
  return `rgb(${COLOURS[distances.indexOf(Math.max(...distances))].join(" ")})`;
};

export const stripes = (context, colour) => {
  const side = 12;
  const tile = new OffscreenCanvas(side, side);
  const drawing = tile.getContext("2d");
  drawing.fillStyle = colour;
  drawing.fillRect(0, 0, side, side);
  drawing.strokeStyle = "#fff";
  drawing.lineWidth = 2;
  for (const shift of [-side, 0, side]) {
    drawing.moveTo(shift - 2, side + 2);
    drawing.lineTo(shift + side + 2, -2);
  }
  drawing.stroke();
  return context.createPattern(tile, "repeat");
};
