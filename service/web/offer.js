// What the server has: models to choose from, and what it will not take.

import { say } from "./activity.js";
import { offer, refresh } from "./desk.js";
import { element } from "./dom.js";
import { key, patiently } from "./server.js";

/** Whether the chosen model takes no sketch. */
export const sketchless = () =>
  offer.models.find(({ name }) => name === element("inpaint-model").value)?.limits?.sketch === false;

const called = ({ task, name, restores }) =>
  task === "inpaint" ? name : `${restores ? "Restore" : "Keep exactly"} (${name})`;

export const learn = async () => {
  const failed = (error, wait) => say(`The list of models did not come: ${error.message} Trying again in ${wait} s.`, true);
  const [{ models }, limits] = await Promise.all([patiently("models", failed), patiently("limits", failed)]);
  Object.assign(offer, { models, limits });
  for (const model of models) {
    // Which one enlarges by itself depends on the picture.
    const preset = model.default && model.task === "inpaint";
    element(`${model.task}-model`).add(new Option(called(model), model.name, preset, preset));
  }
  element("key-row").open = limits.keys && !key.get();
  if (element("status").classList.contains("error")) say("Pictures go to this server alone.");
  refresh();
};

element("inpaint-model").addEventListener("change", refresh);
element("key").value = key.get();
element("key").addEventListener("change", ({ target }) => key.set(target.value.trim()));
element("key-form").addEventListener("submit", (event) => event.preventDefault());
