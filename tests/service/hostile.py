"""Requests that nobody means well: seeded, so that a failure can be sent again."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, features

FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", *(["AVIF"] if features.check("avif") else [])]
ABSURD = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "1e-400",
    "0x10",
    "2,7",
    "",
    " ",
    "²",
    "9" * 400,
    "null",
    "[2]",
]


@dataclass
class Hostile:
    path: str
    files: list[tuple[str, tuple[str, bytes, str]]] = field(default_factory=list)
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    params: list[tuple[str, str]] = field(default_factory=list)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, bits: int = 8, colour: int = 2, tail: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + tail + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def bombs() -> list[bytes]:
    """Small files that claim to be large, or unpack into much."""
    inflating = zlib.compress(b"\0" * 30_000_000, 9)
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(jpeg, "JPEG")
    lying = bytearray(jpeg.getvalue())
    at = lying.index(b"\xff\xc0") + 5
    lying[at : at + 4] = struct.pack(">HH", 9400, 9400)
    return [
        png_header(50_000, 50_000, 1, 0),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(0, 0),
        png_header(1, 2**31 - 1),
        png_header(8, 8, tail=chunk(b"iCCP", b"x\0\0" + inflating)),
        png_header(8, 8, tail=chunk(b"zTXt", b"x\0\0" + inflating)),
        png_header(8, 8, tail=chunk(b"tEXt", b"x\0y") * 20_000),
        png_header(8, 8, bits=3),
        png_header(8, 8, colour=7),
        bytes(lying),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + b"\0" * 50,
        b"RIFF"
        + struct.pack("<I", 26)
        + b"WEBPVP8L"
        + struct.pack("<I", 14)
        + b"\x2f\xff\xff\xff\x0f"
        + b"\0" * 9,
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, -(2**30), 1, 24, 0, 0, 0, 0, 0, 0),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"\x00",
    ]


def seeds(rng: random.Random) -> dict[str, bytes]:
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    encoded = {}
    for name in FORMATS:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, name)
        encoded[name] = out.getvalue()
    return encoded


def corrupt(rng: random.Random, content: bytes) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    damaged = bytearray(content)
    if kind == 1:
        for _ in range(rng.randint(1, 20)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        return bytes(damaged)
    if kind == 2:
        at = rng.randrange(len(damaged))
        return bytes(damaged[:at] + rng.randbytes(rng.randint(1, 200)) + damaged[at:])
    at = rng.randrange(len(damaged))
    return bytes(damaged[:at] + damaged[at + rng.randint(1, 40) :])


def hostile_requests(count: int, seed: int) -> Iterator[Hostile]:
    rng = random.Random(seed)
    good, bad = seeds(rng), bombs()

    def picture() -> bytes:
        roll = rng.random()
        if roll < 0.1:
            return rng.choice(bad)
        if roll < 0.15:
            return rng.randbytes(rng.randrange(400))
        content = good[rng.choice(FORMATS)]
        return content if roll < 0.4 else corrupt(rng, content)

    def part(name: str) -> tuple[str, tuple[str, bytes, str]]:
        filename = rng.choice(["a.png", "../../a", "", "x" * 300, "\u202eгнп.exe", 'q"uote'])
        return name, (filename, picture(), rng.choice(["image/png", "image/jpeg", "text/html", ""]))

    for _ in range(count):
        path = rng.choice(["/inpaint", "/upscale"])
        request = Hostile(path)
        if path == "/upscale":
            request.params.append(("scale", rng.choice([*ABSURD, "1", "1.1", "2.7", "8", "8.1"])))
        if rng.random() < 0.3:
            name = rng.choice(
                ["model", "format", "quality", "grow", "feather", "mask_mode", "width", "odd", "scale"]
            )
            request.params.append((name, rng.choice([*ABSURD, "png", "../x", "a" * 200])))
        shape = rng.randrange(6)
        if shape == 0:
            request.content = picture()
            request.headers["content-type"] = rng.choice(["image/png", "image/x", "application/json", ""])
        elif shape == 1:
            boundary = rng.choice(["b", "", "x" * 1000, "b; charset=utf-16"])
            request.headers["content-type"] = f"multipart/form-data; boundary={boundary}"
            head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            request.content = rng.choice([head + picture() + b"\r\n--b--", head, b"\r\n" * 5000, picture()])
        else:
            names = rng.choice(
                [["image"], ["image", "mask"], ["image", "mask", "sketch"], ["mask"], ["image"] * 2]
            )
            request.files = [part(name) for name in names]
        yield request
