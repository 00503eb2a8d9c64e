"""An upload's own structure, looked at before a decoder is: what lies is refused, what may be slow is known.

Decoders trust lengths that a file states, and work for as long as a file tells them to. Here the plain kinds
are told from all others: 8-bit PNG and JPEG of few parts are decoded in this process, in a time that their
size bounds. Everything else is decoded by a child that can be ended (`sandbox`).
"""

from __future__ import annotations

import struct

from service.errors import Unprocessable

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
START_OF_SCAN = b"\xff\xda"
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; all with Huffman's codes
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}

# A progressive picture has about ten. Each may run over all pixels: of 49 megapixels 3,000 took 52 s.
MAX_SCANS = 100
# Each costs its reader some microseconds, however short it is. 50 MB in the usual 8 kB are 6,400.
MANY_CHUNKS = 20_000

BROKEN = "The picture is broken: its data cannot be decoded."


def is_plain(data: bytes) -> bool:
    """Whether its decoding is bounded by its size; Unprocessable if it contradicts itself."""
    if data.startswith(PNG):
        return is_plain_png(data)
    return data.startswith(JPEG) and is_plain_jpeg(data)


def is_plain_png(data: bytes) -> bool:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise Unprocessable(BROKEN)
    at, count = len(PNG), 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if length > len(data) - at - 12:
            raise Unprocessable("The picture is broken: a part of it says that it is longer than the file.")
        if data[at + 4 : at + 8] == b"IEND":
            break
        at += 12 + length
        count += 1
        if count > MANY_CHUNKS:
            return False
    return data[24] <= 8


def is_plain_jpeg(data: bytes) -> bool:
    # In a picture's data every 0xff is followed by a zero, so that this counts markers, and at most a few
    # more in metadata.
    if data.count(START_OF_SCAN) > MAX_SCANS:
        raise Unprocessable(
            f"The picture has more than {MAX_SCANS} scans; save it again as an ordinary JPEG.",
            limit=MAX_SCANS,
        )
    at = len(JPEG)
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        if marker in FRAMES:
            return data[at + 4 : at + 5] == b"\x08" and data[at + 9 : at + 10] in (b"\x01", b"\x03")
        if marker in WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    return False
