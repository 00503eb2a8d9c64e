// What the server will not take, known before anything is sent. Each answers with a sentence, or with nothing.

const millions = (number) => `${Math.round(number / 1e5) / 10} million`;

export const tooMuch = (limits, { width, height, bytes = 0 }, what) => {
  if (!limits) return "";
  if (bytes > limits.max_bytes) return `${what} has ${millions(bytes)} bytes; this server takes ${millions(limits.max_bytes)}.`;
  if (Math.max(width, height) > limits.max_side) {
    return `${what} would be ${width} × ${height}; no side may be longer than ${limits.max_side} pixels.`;
  }
  if (width * height > limits.max_pixels) {
    return `${what} would have ${millions(width * height)} pixels; this server takes ${millions(limits.max_pixels)}.`;
  }
  return "";
};
