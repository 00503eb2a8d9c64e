// A ZIP archive of files as they are, for pictures are compressed already. Up to 4 GB in all.

const UTF8 = 0x0800; // names
const VERSION = 20;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

const checksum = (bytes) => {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
};

/** Numbers as their little-endian bytes: [value, how many], one after the other. */
const packed = (...fields) => {
  const bytes = fields.flatMap(([value, count]) => Array.from({ length: count }, (_, at) => (value >>> (8 * at)) & 255));
  return Uint8Array.from(bytes);
};

/** Of named blobs; a name that comes again is numbered. */
export const zip = async (files) => {
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const names = unique(files.map(({ name }) => name)).map((name) => new TextEncoder().encode(name));
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [index, { blob }] of files.entries()) {
    const crc = checksum(new Uint8Array(await blob.arrayBuffer()));
    const name = names[index];
    const facts = [[VERSION, 2], [UTF8, 2], [0, 2], [time, 2], [date, 2], [crc, 4], [blob.size, 4], [blob.size, 4]];
    const head = packed([0x04034b50, 4], ...facts, [name.length, 2], [0, 2]);
    parts.push(head, name, blob);
    directory.push(
      packed([0x02014b50, 4], [VERSION, 2], ...facts, [name.length, 2], [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]),
      name,
    );
    offset += head.length + name.length + blob.size;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = packed([0x06054b50, 4], [0, 4], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
};

const unique = (names) => {
  const taken = new Set();
  return names.map((name) => {
    const [, stem, ending] = /^(.*?)(\.[^.]*)?$/.exec(name);
    let free = name;
    for (let number = 2; taken.has(free); number += 1) free = `${stem} (${number})${ending ?? ""}`;
    taken.add(free);
    return free;
  });
};
