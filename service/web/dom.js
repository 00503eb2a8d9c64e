// The page's elements, by their ids.

export const element = (id) => document.getElementById(id);
export const press = (id, act) => element(id).addEventListener("click", act);
export const disable = (id, disabled) => (element(id).disabled = disabled);

/** What was chosen in a file input, which then may be chosen again. */
export const chosenFiles = (id, take) =>
  element(id).addEventListener("change", ({ target }) => {
    const files = [...target.files];
    target.value = "";
    if (files.length) take(files);
  });
