"""Pictures to bytes.

PNG goes through OpenCV, which is several times as fast as Pillow for a few more bytes (bench/encode.py); it
writes neither profiles nor EXIF, so those chunks are put in here.
"""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from service.errors import Unprocessable
from service.imaging.compose import flatten
from service.imaging.picture import Picture, to_bytes

HEADER_END = 8 + 25  # signature and IHDR
WEBP_SIDE = 16_383


def encode(picture: Picture, format: str, quality: int = 90) -> bytes:
    if format == "png":
        return encode_png(picture)
    if format == "webp":
        return encode_webp(picture, quality)
    return encode_jpeg(picture, quality)


def encode_png(picture: Picture) -> bytes:
    if picture.alpha is not None:
        stored = np.dstack([picture.pixels[..., ::-1], picture.alpha])
    elif picture.gray:
        stored = picture.pixels[..., 0]
    else:
        stored = picture.pixels[..., ::-1]
    ok, encoded = cv2.imencode(".png", np.ascontiguousarray(stored))
    if not ok:
        raise Unprocessable("The picture cannot be written as PNG.")
    content = encoded.tobytes()
    extra = b""
    if picture.icc and (not picture.gray or picture.alpha is None):
        extra += chunk(b"iCCP", b"profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        extra += chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    return content[:HEADER_END] + extra + content[HEADER_END:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode_webp(picture: Picture, quality: int) -> bytes:
    if max(picture.size) > WEBP_SIDE:
        raise Unprocessable(f"WebP holds at most {WEBP_SIDE} pixels a side; ask for png.", limit=WEBP_SIDE)
    pixels = to_bytes(picture.pixels)
    if picture.alpha is not None:
        pixels = np.dstack([pixels, to_bytes(picture.alpha)])
    # A gray profile does not describe the colour pixels that WebP always holds.
    icc = None if picture.gray else picture.icc
    return saved(Image.fromarray(pixels), "WEBP", quality, icc, picture.exif)


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    pixels = flatten(picture)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if picture.gray else pixels)
    return saved(image, "JPEG", quality, picture.icc, picture.exif)


def saved(image: Image.Image, format: str, quality: int, icc: bytes | None, exif: bytes | None) -> bytes:
    out = io.BytesIO()
    metadata = {name: value for name, value in (("icc_profile", icc), ("exif", exif)) if value}
    image.save(out, format, quality=quality, **metadata)
    return out.getvalue()
