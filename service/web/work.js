// A picture sent as a job, followed, and its answer put where it belongs.

import { say } from "./activity.js";
import { activity, album, comparison, show } from "./desk.js";
import { element } from "./dom.js";
import { finish, kept, start, teller } from "./jobs.js";
import { Picture } from "./picture.js";

/** The picture on the easel and options as a form. */
export const upload = (task, options) => {
  const form = new FormData();
  form.append("image", album.now.picture.blob, "image");
  const model = element(`${task}-model`).value;
  if (model) form.append("model", model);
  // Metadata stays with every picture on the way; the last step decides.
  for (const [name, value] of Object.entries({ keep_metadata: true, ...options })) form.append(name, value);
  return form;
};

/** Sends a form as a job and follows it; `add` puts its picture into the history. */
export const work = (task, makeForm, about, add) =>
  activity.run(async (signal) => {
    await comparison.turn(false);
    say("Sending …");
    const form = await makeForm();
    const { name } = album.now.picture;
    const id = await start(task, form, { ...about, name }, signal);
    await follow(id, { ...about, name }, signal, add);
  }).then(asked);

const follow = async (id, about, signal, add) => {
  const standing = teller();
  const { answer, model, seconds } = await finish(id, signal, (job) => {
    say(standing(job));
    activity.progress(job?.windows_done, job?.windows_total);
  });
  const picture = await Picture.read(answer, about.name, `${about.made} by ${model}`, about.place);
  if (signal.aborted) return;
  await add(picture);
  say(`${picture.from}, ${seconds.toFixed(1)} s, ${picture.width} × ${picture.height} pixels.`);
};

/** The key is asked for where an answer says that one is wanted. */
export const asked = (error) => {
  if (error?.status !== 401) return;
  element("key-row").open = true;
  element("key").focus();
};

/** Goes on with what was under way when the page was left. */
export const resume = async () => {
  const job = kept();
  if (!job) return;
  say("Finding the work that was under way …");
  await activity.run((signal) => follow(job.id, job.about, signal, (picture) => (album.add(picture), show())));
};
