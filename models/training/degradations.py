"""What happens to photographs on their way to us: uint8 RGB pictures in, uint8 RGB pictures out.

Each function is one thing that cameras, editors and web sites do. `Mix` says how often each is done and how
strongly; `degraded` makes a small picture from a large one as it says.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.imresize import imresize

Picture = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Range = tuple[float, float]

FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
BLOCK = 8  # of JPEG
TO_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def to_bytes(values: npt.NDArray[np.floating]) -> Picture:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def gaussian(down: float, across: float, angle: float = 0.0) -> Plane:
    """A kernel of these deviations along its axes, which are turned by `angle`: equal ones, a round blur."""
    reach = max(1, int(np.ceil(3 * max(down, across))))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    along, beside = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    kernel = np.exp(-((along / down) ** 2 + (beside / across) ** 2) / 2)
    return np.asarray(kernel / kernel.sum(), np.float32)


def disc(radius: float) -> Plane:
    """A lens out of focus: each point becomes a disc, with a border of one pixel."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def convolved(values: Plane, kernel: Plane) -> Plane:
    """(H, W, C); the border's pixels are repeated."""
    reach = kernel.shape[0] // 2
    padded = np.pad(values, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = values.shape[:2]
    answer = np.zeros_like(values)
    for (row, column), weight in np.ndenumerate(kernel):
        if weight > 1e-4:
            answer += weight * padded[row : row + height, column : column + width]
    return answer


def blur(picture: Picture, kernel: Plane) -> Picture:
    # The weights that `convolved` leaves out as too small are made up for.
    return to_bytes(convolved(picture.astype(np.float32), kernel) / kernel[kernel > 1e-4].sum())


def sharpen(picture: Picture, radius: float, amount: float) -> Picture:
    """Unsharp masking: more than a little of it leaves halos."""
    values = picture.astype(np.float32)
    kernel = gaussian(radius, radius)
    smooth = convolved(values, kernel) / kernel[kernel > 1e-4].sum()
    return to_bytes(values + amount * (values - smooth))


def resample(picture: Picture, size: tuple[int, int], way: Image.Resampling) -> Picture:
    """To `size` (height, width)."""
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), way))


def sensor_noise(picture: Picture, level: float, rng: np.random.Generator) -> Picture:
    """Noise of this deviation in mid-grey: half of its power from counting light, half from reading."""
    values = picture.astype(np.float32)
    deviation = level * np.sqrt(0.5 + values / 255)
    return to_bytes(values + deviation * rng.standard_normal(values.shape, np.float32))


def chroma_noise(picture: Picture, level: float, size: float, rng: np.random.Generator) -> Picture:
    """Blotches of colour, `size` pixels large, that leave the brightness as it is."""
    noise = rng.standard_normal(picture.shape, np.float32)
    noise = convolved(noise, gaussian(size, size))
    noise -= (noise @ TO_LUMA)[..., None]
    return to_bytes(picture + noise * (level / max(float(noise.std()), 1e-6)))


def jpeg(picture: Picture, quality: int, halved_colours: bool = True) -> Picture:
    data = io.BytesIO()
    subsampling = "4:2:0" if halved_colours else "4:4:4"
    Image.fromarray(picture).save(data, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(data).convert("RGB"))


def webp(picture: Picture, quality: int) -> Picture:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "WEBP", quality=quality, method=2)
    return np.asarray(Image.open(data).convert("RGB"))


def shifted(picture: Picture, shift: tuple[int, int], save: Callable[[Picture], Picture]) -> Picture:
    """`picture` saved as if it began `shift` pixels later, as a part of a larger one: its blocks move."""
    down, right = shift
    height, width = picture.shape[:2]
    # Whole blocks, so that nothing is invented at the far borders.
    below, beside = -(height + down) % BLOCK, -(width + right) % BLOCK
    padded = np.pad(picture, ((down, below), (right, beside), (0, 0)), mode="edge")
    return save(padded)[down : down + height, right : right + width]


@dataclass(frozen=True)
class Mix:
    """Shares between 0 and 1, and ranges to draw from. Lengths are pixels of the picture as it is then."""

    clean: float = 0.15  # nothing but made smaller, by the standard resize
    plain: float = 0.35  # made smaller by the standard resize and saved once: most pictures on the web
    # Of the others, at the large size:
    blurred: float = 0.4
    blur: Range = (0.3, 1.2)  # deviation, or a disc's radius, as a share of the factor made smaller by
    noisy_before: float = 0.25
    noise_before: Range = (1, 20)
    saved_before: float = 0.4
    # At the small size:
    sharpened: float = 0.25
    sharpness: Range = (0.3, 1.5)
    noisy: float = 0.3
    noise: Range = (1, 10)
    coloured: float = 0.15
    colour: Range = (1, 8)
    saved_twice: float = 0.3
    # Each time that a picture is saved:
    quality: Range = (30, 95)
    webp: float = 0.2


def degraded(large: Picture, side: int, mix: Mix, rng: np.random.Generator) -> tuple[Picture, bool]:
    """`large`, a square, made smaller to `side` pixels as `mix` says; whether nothing else was done to it."""
    kind = rng.random()
    factor = large.shape[0] / side
    if kind < mix.clean + mix.plain:
        small = imresize(large, side / large.shape[0], (side, side))
        clean = bool(kind < mix.clean)
        return (small if clean else saved(small, mix, rng)), clean
    if rng.random() < mix.blurred:
        large = blur(large, kernel(mix, factor, rng))
    if rng.random() < mix.noisy_before:
        large = sensor_noise(large, rng.uniform(*mix.noise_before), rng)
    if rng.random() < mix.saved_before:
        large = saved(large, mix, rng)
    small = resample(large, (side, side), FILTERS[rng.integers(len(FILTERS))])
    if rng.random() < mix.sharpened:
        small = sharpen(small, rng.uniform(0.6, 2), rng.uniform(*mix.sharpness))
    if rng.random() < mix.noisy:
        small = sensor_noise(small, rng.uniform(*mix.noise), rng)
    if rng.random() < mix.coloured:
        small = chroma_noise(small, rng.uniform(*mix.colour), rng.uniform(0.5, 2), rng)
    small = saved(small, mix, rng)
    return (saved(small, mix, rng) if rng.random() < mix.saved_twice else small), False


def kernel(mix: Mix, factor: float, rng: np.random.Generator) -> Plane:
    strength, other = rng.uniform(*mix.blur, size=2) * factor
    kind = rng.integers(3)
    if kind == 0:
        return gaussian(strength, strength)
    if kind == 1:
        return gaussian(strength, other, rng.uniform(0, np.pi))
    return disc(strength)


def saved(picture: Picture, mix: Mix, rng: np.random.Generator) -> Picture:
    quality = int(rng.integers(int(mix.quality[0]), int(mix.quality[1]) + 1))
    shift = int(rng.integers(BLOCK)), int(rng.integers(BLOCK))
    if rng.random() < mix.webp:
        return shifted(picture, shift, lambda whole: webp(whole, quality))
    halved = bool(rng.random() < 0.75)
    return shifted(picture, shift, lambda whole: jpeg(whole, quality, halved))
