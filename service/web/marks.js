// Marks: what was painted, in pixels of the picture. A stroke is a line with a width, an area a polygon, a mask
// the alpha of a canvas, an inversion all of its box. Each says its layer, "hole" or "sketch"; "erase" takes away
// from both. Masks and sketches to send are drawn from them once, at the end.

export const stroke = (tool, width, points) => ({ shape: "stroke", tool, width, points });
export const area = (tool, points) => ({ shape: "area", tool, points });
export const mask = (tool, image, box, clicks = null) => ({ shape: "mask", tool, image, box, clicks });
export const inversion = (box) => ({ shape: "inversion", tool: "hole", box });
export const whole = ({ width, height }) => ({ left: 0, top: 0, width, height });

export const marked = (marks, layer) => marks.some((mark) => mark.tool === layer);

/** The same mark on a picture enlarged by factors and moved. */
export const moved = (mark, across, down, left = 0, top = 0) => {
  const result = { ...mark, clicks: null };
  if (mark.points) result.points = mark.points.map(([x, y]) => [x * across + left, y * down + top]);
  if (mark.width) result.width = mark.width * Math.sqrt(across * down);
  if (mark.box) {
    const { left: x, top: y, width, height } = mark.box;
    result.box = { left: x * across + left, top: y * down + top, width: width * across, height: height * down };
  }
  return result;
};

/** A stroke from its point `first` on. */
export const drawStroke = (context, { width, points }, first = 0) => {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  const [start, ...rest] = points.slice(Math.max(0, first - 1));
  context.moveTo(...start);
  // A line without length would not be drawn, and a click is to be a dot.
  context.lineTo(start[0] + 0.01, start[1]);
  rest.forEach((point) => context.lineTo(...point));
  context.stroke();
};

const drawArea = (context, { points }) => {
  context.beginPath();
  points.forEach((point) => context.lineTo(...point));
  context.closePath();
  context.fill();
};

const drawMask = (context, { image, box }) =>
  context.drawImage(image, box.left, box.top, box.width, box.height);

const drawInversion = (context, { box }) => context.fillRect(box.left, box.top, box.width, box.height);

const DRAW = { stroke: drawStroke, area: drawArea, mask: drawMask, inversion: drawInversion };
const OPERATION = { erase: "destination-out", inversion: "xor" };

/** One layer of the marks, as the context's alpha. */
export const drawLayer = (context, marks, layer) => {
  for (const mark of marks) {
    if (mark.tool !== layer && mark.tool !== "erase") continue;
    context.globalCompositeOperation = OPERATION[mark.tool] ?? OPERATION[mark.shape] ?? "source-over";
    DRAW[mark.shape](context, mark);
  }
  context.globalCompositeOperation = "source-over";
};

/** One layer as a PNG of the picture's size. */
export const layerFile = (marks, layer, { width, height }, ink, paper) => {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = context.strokeStyle = "#fff";
  drawLayer(context, marks, layer);
  fill(context, "source-in", ink);
  fill(context, "destination-over", paper);
  return canvas.convertToBlob();
};

const fill = (context, operation, style) => {
  context.globalCompositeOperation = operation;
  context.fillStyle = style;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
};

/** A mask's file as a canvas whose alpha is the mask: what is transparent in it, or else what is bright. */
export const readMask = async (blob) => {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  let transparent = false;
  for (let at = 3; at < data.length && !transparent; at += 4) transparent = data[at] < 255;
  for (let at = 0; at < data.length; at += 4) {
    const bright = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    data[at + 3] = transparent ? 255 - data[at + 3] : bright;
    data[at] = data[at + 1] = data[at + 2] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
};
