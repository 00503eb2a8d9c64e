"""Pictures to bytes."""

from __future__ import annotations

import io

import numpy as np
from isal import isal_zlib
from PIL import Image, features

from service.errors import Unprocessable
from service.imaging.compose import flatten
from service.imaging.picture import Picture, to_bytes
from service.imaging.png import chunk, write_png

WEBP_SIDE = 16_383
# The encoder holds 27 bytes a pixel. A megapixel takes 0.4 s on a core at its speed 8, 6 s at its default.
AVIF_PIXELS = 1 << 24
AVIF_OPTIONS = {"speed": 8, "max_threads": 1}


def encode(picture: Picture, format: str, quality: int = 90) -> bytes:
    if format == "png":
        return encode_png(picture)
    if format == "webp":
        return encode_webp(picture, quality)
    if format == "avif":
        return encode_avif(picture, quality)
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
    return saved(in_colour(picture), "WEBP", quality, colour_profile(picture), picture.exif)


def encode_avif(picture: Picture, quality: int) -> bytes:
    if not features.check("avif"):
        raise Unprocessable("This deployment's Pillow writes no AVIF; ask for webp.")
    if picture.height * picture.width > AVIF_PIXELS:
        raise Unprocessable(f"AVIF is written up to {AVIF_PIXELS} pixels; ask for webp.", limit=AVIF_PIXELS)
    return saved(in_colour(picture), "AVIF", quality, colour_profile(picture), picture.exif, **AVIF_OPTIONS)


def in_colour(picture: Picture) -> Image.Image:
    pixels = to_bytes(picture.pixels)
    if picture.alpha is not None:
        pixels = np.dstack([pixels, to_bytes(picture.alpha)])
    return Image.fromarray(pixels)


def colour_profile(picture: Picture) -> bytes | None:
    """A gray one does not describe the colour pixels that WebP and AVIF always hold."""
    return None if picture.gray else picture.icc


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    pixels = flatten(picture)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if picture.gray else pixels)
    return saved(image, "JPEG", quality, picture.icc, picture.exif)


def saved(
    image: Image.Image, format: str, quality: int, icc: bytes | None, exif: bytes | None, **options: int
) -> bytes:
    out = io.BytesIO()
    metadata = {name: value for name, value in (("icc_profile", icc), ("exif", exif)) if value}
    image.save(out, format, quality=quality, **metadata, **options)
    return out.getvalue()
