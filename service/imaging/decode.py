"""Uploaded bytes to pictures, with the header read and judged before any pixel is allocated."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# OpenCV reads these when it is imported. Our own limits are checked before it sees a picture, and what is
# broken in one is its sender's to know and not the log's.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 30))
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError, features

from service.errors import Problem, Unprocessable, UnsupportedImage
from service.imaging.limits import Limits
from service.imaging.picture import Picture, Pixels
from service.imaging.sandbox import sandbox
from service.imaging.structure import BROKEN, is_plain

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", *(("AVIF",) if features.check("avif") else ()))
MAX_ICC = 4 << 20
GRAY_MODES = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}

# Pillow's own limit only warns where it should refuse, and is no policy of ours: `Limits` is.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False


def suffixes() -> frozenset[str]:
    """Of files that may be read, in lower case with their dots."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


@dataclass(frozen=True)
class Header:
    width: int  # upright
    height: int
    format: str
    bits: int
    alpha: bool
    plain: bool  # decoded in this process; others by a child

    @property
    def pixels(self) -> int:
        return self.width * self.height


@contextmanager
def opened(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """The picture with its header read and its size within limits; every decoder's failure as a Problem."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            limits.check(image.height, image.width)
            yield image
    except Problem:
        raise
    except UnidentifiedImageError:
        readable = ", ".join(FORMATS)
        raise UnsupportedImage(
            f"The bytes are no picture that can be read; formats are {readable}."
        ) from None
    except Exception:
        # Decoders raise nearly anything on hostile bytes: OSError, ValueError, SyntaxError, EOFError, ...
        raise Unprocessable(BROKEN) from None


def read_header(data: bytes, limits: Limits) -> Header:
    with opened(data, limits) as image:
        height, width = image.height, image.width
        if orientation(image) >= 5:
            height, width = width, height
        bits = 16 if deep_colour(data, image) or image.mode.startswith("I;16") else 8
        alpha = image.has_transparency_data
        return Header(width, height, image.format or "", bits, alpha, is_plain(data))


def decode(data: bytes, limits: Limits, keep_metadata: bool = False) -> Picture:
    """Where it is safe: here if its size bounds what it costs, else in a child that can be ended."""
    if is_plain(data):
        return decode_here(data, limits, keep_metadata)
    with opened(data, limits) as image:
        pixels = image.height * image.width
    return sandbox.decode(data, limits, pixels, keep_metadata)


def decode_here(data: bytes, limits: Limits, keep_metadata: bool = False) -> Picture:
    with opened(data, limits) as image:
        if image.mode in ("I", "F"):
            raise UnsupportedImage("Pictures of 32-bit integers or floats are not read; use 8 or 16 bits.")
        turn = orientation(image)
        exif = image.getexif() if keep_metadata else None
        icc = image.info.get("icc_profile")
        gray = image.mode in GRAY_MODES
        if deep_colour(data, image):
            pixels, alpha, gray = decode_deep(data)
            turn = stored_orientation(image) if image.format == "TIFF" else turn
        elif image.mode.startswith("I;16"):
            plane = np.asarray(image).astype(np.uint16)
            pixels, alpha = np.repeat(plane[..., None], 3, axis=2), None
        else:
            fast = decode_fast(data, image)
            pixels, alpha, converted = decode_shallow(image) if fast is None else (fast, None, False)
            icc = None if converted else icc
    return Picture(
        pixels=turned(pixels, turn),
        alpha=None if alpha is None else turned(alpha, turn),
        gray=gray,
        icc=fitting_profile(icc, gray),
        exif=without_orientation(exif),
    )


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or it makes no sense."""
    # Pillow turns TIFF by itself. A PNG's EXIF may lie behind its pixels; asking for it would decode them.
    if image.format == "TIFF":
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # garbage in metadata does not make the pixels unreadable
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def stored_orientation(image: Image.Image) -> int:
    """A TIFF's own orientation, for pixels that did not come through Pillow."""
    value = image.tag_v2.get(ExifTags.Base.Orientation, 1)  # type: ignore[attr-defined]
    return value if value in range(1, 9) else 1


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Upright pixels from stored ones."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def deep_colour(data: bytes, image: Image.Image) -> bool:
    """16 bits a channel with colour or alpha, which Pillow would squash to 8."""
    if image.format == "PNG":
        depth, colour = data[24], data[25]
        return depth == 16 and colour in (2, 4, 6)
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, ())  # type: ignore[attr-defined]
        return image.mode in ("RGB", "RGBA") and bits not in ((), (8,) * len(bits)) and max(bits) == 16
    return False


def decode_deep(data: bytes) -> tuple[Pixels, Pixels | None, bool]:
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3:
        raise Unprocessable(BROKEN)
    pixels = np.ascontiguousarray(stored[..., 2::-1])
    alpha = np.ascontiguousarray(stored[..., 3]) if stored.shape[2] == 4 else None
    gray = data[:4] == b"\x89PNG" and data[25] == 4
    return pixels, alpha, gray


def decode_fast(data: bytes, image: Image.Image) -> Pixels | None:
    """8 bits of colour or gray and nothing else, in half of Pillow's time; None if Pillow has to say."""
    if image.format not in ("PNG", "JPEG") or image.mode not in ("RGB", "L") or image.has_transparency_data:
        return None
    if getattr(image, "is_animated", False):
        return None
    kind = cv2.IMREAD_COLOR_RGB if image.mode == "RGB" else cv2.IMREAD_GRAYSCALE
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), kind | cv2.IMREAD_IGNORE_ORIENTATION)
    if stored is None or stored.shape[:2] != (image.height, image.width):
        return None
    return stored if stored.ndim == 3 else cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB)


def decode_shallow(image: Image.Image) -> tuple[Pixels, Pixels | None, bool]:
    """Pixels, alpha, and whether colours were converted, so that the profile no longer fits."""
    if image.mode == "CMYK":
        return np.asarray(from_cmyk(image)), None, True
    if image.has_transparency_data:
        both = np.asarray(image.convert("RGBA"))
        return both[..., :3], both[..., 3], False
    converted = image.mode not in ("1", "L", "P", "RGB", "RGBX")
    return np.asarray(image.convert("RGB")), None, converted


def from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if made is not None:
                return made
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that cannot be used is worth no refusal
    return image.convert("RGB")


def fitting_profile(icc: object, gray: bool) -> bytes | None:
    """The profile, where it describes the kind of pixels that go out."""
    if not isinstance(icc, bytes) or not 128 <= len(icc) <= MAX_ICC:
        return None
    (length,) = struct.unpack(">I", icc[:4])
    wanted = b"GRAY" if gray else b"RGB "
    return icc if icc[16:20] == wanted and length <= len(icc) else None


def without_orientation(exif: Image.Exif | None) -> bytes | None:
    if not exif:
        return None
    exif.pop(ExifTags.Base.Orientation, None)
    try:
        return exif.tobytes() if exif else None
    except Exception:
        return None  # metadata that cannot be written again is dropped
