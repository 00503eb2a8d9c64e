// What is shown, as a file: as it is where that is what was asked for, written anew by the server otherwise,
// which keeps metadata, profiles and depth where a browser's canvas would lose them. All pictures go into a ZIP.

import { say } from "./activity.js";
import { activity, album, panel, refresh } from "./desk.js";
import { disable, element, press } from "./dom.js";
import { call } from "./server.js";
import { asked } from "./work.js";
import { zip } from "./zip.js";

const ENDING = { png: "png", jpeg: "jpg", webp: "webp" };
const NAMES = { png: "PNG", jpeg: "JPEG", webp: "WebP" };

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

/** The format that was chosen, or that of the file that was opened. */
const formatOf = ({ name }) => element("format").value || opened(name);
const opened = (name) => {
  const ending = name.toLowerCase().replace(/^.*\./, "").replace("jpg", "jpeg");
  return ending in ENDING ? ending : "png";
};

const fileOf = async (picture, signal) => {
  const [format, quality, keep] = [formatOf(picture), element("quality").value, element("keep").checked];
  const asItIs = picture.blob.type === `image/${format}` && keep && (format === "png" || picture.from === "opened");
  const file = { name: `${stem(picture.name)}-retouched.${ENDING[format]}`, blob: picture.blob };
  if (asItIs) return file;
  const form = new FormData();
  form.append("image", picture.blob, "image");
  for (const [name, value] of Object.entries({ scale: 1, format, quality, keep_metadata: keep })) {
    form.append(name, value);
  }
  return { ...file, blob: await (await call("upscale", { method: "POST", body: form, signal })).blob() };
};

export const download = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

const saving = (make) =>
  activity.run(async (signal) => {
    const { name, blob } = await make(signal);
    download(blob, name);
    say(`${name}, ${(blob.size / 1e6).toFixed(1)} MB.`);
  }).then(asked);

export const save = () => album.now && saving((signal) => fileOf(album.now.picture, signal));

const saveAll = () =>
  saving(async (signal) => {
    const files = [];
    for (const { now } of album.histories) {
      say(`Picture ${files.length + 1} of ${album.histories.length} …`);
      files.push(await fileOf(now.picture, signal));
    }
    return { name: "retouched.zip", blob: await zip(files) };
  });

/** A clipboard holds PNG. */
const copy = (picture) => {
  const png = async () => {
    if (picture.blob.type === "image/png") return picture.blob;
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture.full, 0, 0);
    return canvas.convertToBlob();
  };
  return navigator.clipboard.write([new ClipboardItem({ "image/png": png() })]);
};

panel(({ now, ready }) => {
  for (const id of ["download", "download-all"]) disable(id, !ready);
  disable("copy", !ready || !globalThis.ClipboardItem);
  element("download-all").hidden = album.histories.length < 2;
  element("format").options[0].textContent = now ? `As opened (${NAMES[opened(now.picture.name)]})` : "As opened";
  element("quality-row").hidden = (now ? formatOf(now.picture) : element("format").value || "png") === "png";
});

press("download", save);
press("download-all", saveAll);
press("copy", () => copy(album.now.picture).then(() => say("Copied."), () => say("The browser refused.", true)));
element("format").addEventListener("input", refresh);
