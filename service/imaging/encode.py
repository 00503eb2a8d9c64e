"""Pictures to bytes."""

from __future__ import annotations

import io

import numpy as np
from isal import isal_zlib
from PIL import Image

from service.errors import Unprocessable
from service.imaging.compose import flatten
from service.imaging.picture import Picture, to_bytes
from service.imaging.png import chunk, write_png

WEBP_SIDE = 16_383


def encode(picture: Picture, format: str, quality: int = 90) -> bytes:
    if format == "png":
        return encode_png(picture)
    if format == "webp":
        return encode_webp(picture, quality)
    return encode_jpeg(picture, quality)


def encode_png(picture: Picture) -> bytes:
    planes = [picture.pixels[..., :1] if picture.gray else picture.pixels]
    if picture.alpha is not None:
        planes.append(picture.alpha[..., None])
    chunks = []
    if picture.icc:
        chunks.append(chunk(b"iCCP", b"profile\0\0" + isal_zlib.compress(picture.icc)))
    if picture.exif:
        chunks.append(chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    return write_png(np.dstack(planes) if len(planes) > 1 else planes[0], *chunks)


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
