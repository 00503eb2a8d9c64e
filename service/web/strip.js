// A row of small pictures to choose from, shown as soon as there is a choice.

/** Entries have a picture, words, whether they are chosen, what to do, and perhaps how they are closed. */
export const showStrip = (row, entries, disabled) => {
  const focused = row.contains(document.activeElement);
  row.hidden = entries.length < 2;
  row.replaceChildren(
    ...entries.flatMap(({ picture, says, current, choose, close }) => {
      const chooser = button(says, disabled, choose);
      chooser.append(copyOf(picture));
      if (current) chooser.setAttribute("aria-current", "true");
      if (!close) return [chooser];
      const closer = button(`Close ${picture.name}`, disabled, close);
      closer.append("×");
      closer.className = "close";
      return [chooser, closer];
    }),
  );
  if (focused) row.querySelector("[aria-current]")?.focus();
};

const button = (says, disabled, act) => {
  const made = Object.assign(document.createElement("button"), { type: "button", disabled, title: says });
  made.setAttribute("aria-label", says);
  made.addEventListener("click", act);
  return made;
};

/** A canvas can be at one place alone. */
const copyOf = ({ thumbnail }) => {
  const copy = document.createElement("canvas");
  Object.assign(copy, { width: thumbnail.width, height: thumbnail.height });
  copy.getContext("2d").drawImage(thumbnail, 0, 0);
  return copy;
};
