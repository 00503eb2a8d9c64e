// Paint a hole, draw a sketch, drag the scale. Strokes are kept as lists of points in picture pixels and drawn
// anew into mask, sketch and overlay, so that undo is the removal of a stroke and nothing is ever resampled.

const element = (id) => document.getElementById(id);
const picture = element("picture");
const paint = element("paint");
const state = { blob: null, previous: null, strokes: [], stroke: null, busy: false };

const drawStroke = (context, stroke, style, width) => {
  context.strokeStyle = context.fillStyle = style;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  const [first, ...rest] = stroke.points;
  context.moveTo(...first);
  // A line without length would not be drawn, and a click is to be a dot.
  context.lineTo(first[0] + 0.01, first[1]);
  rest.forEach((point) => context.lineTo(...point));
  context.stroke();
};

const layer = (tool, style, background) => {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  for (const stroke of state.strokes) {
    if (stroke.tool !== tool && stroke.tool !== "erase") continue;
    context.globalCompositeOperation = stroke.tool === "erase" ? "destination-out" : "source-over";
    drawStroke(context, stroke, style, stroke.width);
  }
  if (background) {
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = background;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  return canvas;
};

const has = (tool) => state.strokes.some((stroke) => stroke.tool === tool);

const render = () => {
  paint.width = picture.width;
  paint.height = picture.height;
  if (element("easel").hidden) return;
  const context = paint.getContext("2d");
  context.globalAlpha = 0.55;
  context.drawImage(layer("hole", "#e5484d"), 0, 0);
  context.globalAlpha = 1;
  context.drawImage(layer("sketch", "#111"), 0, 0);
  const ready = Boolean(state.blob) && !state.busy;
  element("fill").disabled = !ready || !has("hole");
  element("enlarge").disabled = !ready;
  element("clear").disabled = state.strokes.length === 0;
  element("undo").disabled = state.busy || (state.strokes.length === 0 && !state.previous);
  element("before").disabled = !state.previous;
  const scale = Number(element("scale").value);
  const size = (side) => Math.max(1, Math.floor(side * scale + 0.5));
  element("scale-value").value = `${scale.toFixed(1)}: ${size(picture.width)}×${size(picture.height)}`;
};

const say = (text, error = false) => {
  element("status").textContent = text;
  element("status").classList.toggle("error", error);
  element("status").classList.toggle("busy", state.busy);
};

const show = async (blob) => {
  const bitmap = await createImageBitmap(blob);
  picture.width = bitmap.width;
  picture.height = bitmap.height;
  picture.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  element("easel").hidden = false;
  element("invitation").hidden = true;
};

const open = async (blob) => {
  try {
    await show(blob);
  } catch {
    say("The browser cannot read this file as a picture.", true);
    return;
  }
  Object.assign(state, { blob, previous: null, strokes: [] });
  element("download").hidden = true;
  say(`${picture.width} × ${picture.height} pixels. Paint over what should go.`);
  render();
};

const send = async (path, form) => {
  state.busy = true;
  say("Working …");
  render();
  const started = performance.now();
  try {
    const response = await fetch(path, { method: "POST", body: form });
    if (!response.ok) {
      const problem = await response.json().catch(() => ({ detail: response.statusText }));
      throw new Error(problem.detail);
    }
    const answer = await response.blob();
    await show(answer);
    Object.assign(state, { previous: state.blob, blob: answer, strokes: [], busy: false });
    const link = element("download");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(answer);
    link.hidden = false;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    say(`${response.headers.get("X-Model")}, ${seconds} s, ${picture.width} × ${picture.height} pixels.`);
  } catch (error) {
    state.busy = false;
    say(error instanceof TypeError ? "The server cannot be reached." : error.message, true);
  } finally {
    render();
  }
};

// Takes back a stroke, or else the last answer.
const undo = async () => {
  if (state.strokes.length) state.strokes.pop();
  else if (state.previous && !state.busy) {
    await show(state.previous);
    Object.assign(state, { blob: state.previous, previous: null });
    element("download").hidden = true;
    say("As it was before.");
  }
  render();
};

const upload = () => {
  const form = new FormData();
  form.append("image", state.blob, "image");
  return form;
};

const fill = async () => {
  const form = upload();
  form.append("mask", await layer("hole", "#fff", "#000").convertToBlob(), "mask.png");
  if (has("sketch")) form.append("sketch", await layer("sketch", "#000", "#fff").convertToBlob(), "sketch.png");
  form.append("model", element("inpaint-model").value);
  await send("inpaint", form);
};

const enlarge = async () => {
  const form = upload();
  form.append("model", element("upscale-model").value);
  await send(`upscale?scale=${element("scale").value}`, form);
};

const position = (event) => {
  const box = paint.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * paint.width,
    ((event.clientY - box.top) / box.height) * paint.height,
  ];
};

paint.addEventListener("pointerdown", (event) => {
  if (!state.blob || state.busy) return;
  paint.setPointerCapture(event.pointerId);
  const tool = document.querySelector("input[name=tool]:checked").value;
  const zoom = paint.width / paint.getBoundingClientRect().width;
  // A sketch is a line, whatever the brush: the networks learnt from edges a pixel or two wide.
  const width = tool === "sketch" ? Math.max(2, 2 * zoom) : Number(element("size").value) * zoom;
  state.stroke = { tool, width, points: [position(event)] };
  state.strokes.push(state.stroke);
  render();
});
const followed = (event) => {
  const cursor = element("cursor");
  const sketching = document.querySelector("input[name=tool]:checked").value === "sketch";
  cursor.hidden = event.type === "pointerleave" || event.pointerType === "touch" || sketching;
  cursor.style.width = cursor.style.height = `${element("size").value}px`;
  [cursor.style.left, cursor.style.top] = [`${event.offsetX}px`, `${event.offsetY}px`];
};
for (const name of ["pointermove", "pointerenter", "pointerleave"]) paint.addEventListener(name, followed);
paint.addEventListener("pointermove", (event) => {
  if (!state.stroke) return;
  state.stroke.points.push(...(event.getCoalescedEvents?.() ?? [event]).map(position));
  render();
});
for (const name of ["pointerup", "pointercancel"]) paint.addEventListener(name, () => (state.stroke = null));

element("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((candidate) => candidate.type.startsWith("image/"));
  if (file) open(file);
});
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
});
element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", () => ((state.strokes = []), render()));
element("fill").addEventListener("click", fill);
element("enlarge").addEventListener("click", enlarge);
element("scale").addEventListener("input", render);
const compare = element("before");
const look = (blob) => state.previous && !state.busy && show(blob);
compare.addEventListener("pointerdown", () => look(state.previous));
compare.addEventListener("keydown", (event) => event.key === " " && look(state.previous));
for (const name of ["pointerup", "pointerleave", "keyup"]) compare.addEventListener(name, () => look(state.blob));

const { models } = await (await fetch("models")).json();
for (const task of ["inpaint", "upscale"]) {
  const select = element(`${task}-model`);
  for (const model of models.filter((candidate) => candidate.task === task)) {
    select.add(new Option(model.name, model.name, model.default, model.default));
  }
}
render();
document.body.dataset.ready = "true";
