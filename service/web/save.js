// What is shown, as a file: as it is where that is what was asked for, written anew by the server otherwise,
// which keeps metadata, profiles and depth where a browser's canvas would lose them.

import { call } from "./server.js";

const ENDING = { png: "png", jpeg: "jpg", webp: "webp" };

export const fileName = (picture, format) => `${stem(picture.name)}-retouched.${ENDING[format]}`;
export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

export const fileOf = async (picture, { format, quality, keep }, signal) => {
  const asItIs = picture.blob.type === `image/${format}` && keep && (format === "png" || picture.from === "opened");
  if (asItIs) return picture.blob;
  const form = new FormData();
  form.append("image", picture.blob, "image");
  for (const [name, value] of Object.entries({ scale: 1, format, quality, keep_metadata: keep })) {
    form.append(name, value);
  }
  return (await call("upscale", { method: "POST", body: form, signal })).blob();
};

export const download = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

/** A clipboard holds PNG. */
export const copy = (picture) => {
  const png = async () => {
    if (picture.blob.type === "image/png") return picture.blob;
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture.full, 0, 0);
    return canvas.convertToBlob();
  };
  return navigator.clipboard.write([new ClipboardItem({ "image/png": png() })]);
};
