"""Ways to write a PNG: milliseconds and bytes on photographs, as ratios to Pillow's default.

    python bench/encode.py [PICTURE ...]

Each way takes its turn in every round, so that other load on the machine falls on all alike.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

# This file's own folder comes first otherwise, and in it `service` is another file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.png import write_png

Pixels = npt.NDArray[np.uint8]
SIDE, ROUNDS = 512, 7
EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "filled.jpg"


def by_pillow(level: int) -> Callable[[Pixels], bytes]:
    def encode(pixels: Pixels) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=level)
        return out.getvalue()

    return encode


def by_opencv(*options: int) -> Callable[[Pixels], bytes]:
    return lambda pixels: cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]), options)[1].tobytes()


LEVEL, STRATEGY, FILTER = cv2.IMWRITE_PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_FILTER
WAYS = {
    "Pillow, its default (6)": by_pillow(6),
    "Pillow, level 1": by_pillow(1),
    "igzip, what the service does": write_png,
    "OpenCV, its default": by_opencv(),
    "OpenCV, level 0": by_opencv(LEVEL, 0),
    "OpenCV, level 1": by_opencv(LEVEL, 1, STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT),
    "OpenCV, level 6": by_opencv(LEVEL, 6, STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT),
    "OpenCV, Huffman only": by_opencv(STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    "OpenCV, Paeth filter": by_opencv(FILTER, cv2.IMWRITE_PNG_FILTER_PAETH),
}


def main(pictures: list[Path]) -> None:
    best: dict[tuple[str, int], float] = {}
    sizes = dict.fromkeys(WAYS, 0)
    for number, path in enumerate(pictures):
        pixels = np.asarray(Image.open(path).convert("RGB").crop((0, 0, SIDE, SIDE)))
        for name, encode in WAYS.items():
            content = encode(pixels)
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels), name
            sizes[name] += len(content)
        for _ in range(ROUNDS):
            for name, encode in WAYS.items():
                started = time.perf_counter()
                encode(pixels)
                taken = time.perf_counter() - started
                best[name, number] = min(taken, best.get((name, number), taken))
    seconds = {name: sum(best[name, number] for number in range(len(pictures))) for name in WAYS}
    first = next(iter(WAYS))
    print("| way | ms | time | bytes |\n| --- | --- | --- | --- |")
    for name in WAYS:
        time_share, byte_share = seconds[name] / seconds[first], sizes[name] / sizes[first]
        print(
            f"| {name} | {seconds[name] / len(pictures) * 1000:.1f} | {time_share:.2f} | {byte_share:.2f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path, default=[EXAMPLE])
    main(parser.parse_args().pictures)
