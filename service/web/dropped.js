// The pictures among what was dropped, those in folders too, in the order of their names.

export const picturesIn = async (transfer) => {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length ? (await Promise.all(entries.map(within))).flat() : [...transfer.files];
  if (files.length === 1) return files;
  return files.filter(({ type }) => type.startsWith("image/")).sort((one, other) => one.name.localeCompare(other.name));
};

const within = async (entry) => {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const more = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!more.length) return (await Promise.all(found.map(within))).flat();
    found.push(...more);
  }
};
