"""Whether the installed models answer here as they do on a processor, and as they should."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models import registry
from service.doctor.report import Finding, graded
from service.engine.catalogue import Catalogue
from service.engine.runtimes.resident import TorchResident
from service.engine.runtimes.torch_runtime import TorchRuntime, devices
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window

SIDE = 256
ALIKE = {"float32": (1.0, 0.01, 0.002)}  # most levels, mean levels, share of bytes that may differ
ROUNDED = (1.0, 0.05, 0.05)
REPEATS = 3


@dataclass(frozen=True)
class Difference:
    """Of two answers, where they were made up, in levels of 255."""

    largest: float
    mean: float
    share: float

    @classmethod
    def between(cls, one: Pixels, other: Pixels, window: Window) -> Difference:
        off = np.abs(one.astype(float) - other) * 255 / np.iinfo(one.dtype).max
        if isinstance(window, InpaintWindow):
            off = off[window.hole > 0]
        return cls(float(off.max()), float(off.mean()), float((off > 0).mean()))

    def within(self, arithmetic: str) -> bool:
        largest, mean, share = ALIKE.get(arithmetic, ROUNDED)
        return self.largest <= largest and self.mean <= mean and self.share <= share

    def __str__(self) -> str:
        return f"{self.largest:.2f} levels at most, {self.mean:.4f} in the mean, {self.share:.2%} of bytes"


def example(side: int, inpaint: bool, seed: int = 0, kind: type = np.uint8, sketch: bool = False) -> Window:
    """A picture of waves and grain; a hole in its middle, or a tile to enlarge."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side]
    waves = np.stack([np.sin(rows / 7 + seed), np.cos(columns / 11), np.sin((rows + columns) / 17)], -1)
    unit = np.clip(0.5 + 0.3 * waves + random.normal(0, 0.015, waves.shape), 0, 1)
    pixels: npt.NDArray[Any] = np.rint(unit * np.iinfo(kind).max).astype(kind)
    if not inpaint:
        whole = Fraction(2)
        return UpscaleTile(pixels, (whole, whole), (0, 0), (0, 0, 2 * side, 2 * side))
    hole = np.zeros((side, side), np.uint8)
    hole[side // 3 : side // 2, side // 3 : side // 2] = 1
    lines = (rows == columns).astype(np.uint8) if sketch else None
    return InpaintWindow(pixels, hole, lines)


@dataclass
class Patient:
    """A model on the device that is looked at, and on a processor."""

    name: str
    inpaint: bool
    sketch: bool
    chooses: bool
    side: int
    here: TorchResident
    there: TorchResident

    def window(self, **options: Any) -> Window:
        return example(self.side, self.inpaint, **options)


def patients(settings: Any, precision: str | None = None) -> Iterator[Patient | Finding]:
    """Every installed model, or why it cannot be had."""
    device = devices(settings.device)[0]
    asked = settings if precision is None else with_precision(settings, precision)
    runtime, plain = TorchRuntime(asked, device), TorchRuntime(settings, torch.device("cpu"))
    catalogue = Catalogue(settings, runtime.device)
    for name, entry in catalogue.entries.items():
        traits = catalogue.traits(name)
        side = traits.sides.round_up(min(SIDE, traits.window))
        try:
            yield Patient(
                name,
                entry.task == "inpaint",
                traits.sketch,
                registry.get(entry.architecture).chooses,
                side,
                runtime.load(entry),
                plain.load(entry),
            )
        except Exception as error:
            yield Finding("fault", name, f"cannot be loaded: {error}")


def with_precision(settings: Any, precision: str) -> Any:
    if hasattr(settings, "model_copy"):
        return settings.model_copy(update={"precision": precision})
    return SimpleNamespace(**{**vars(settings), "precision": precision})


def answers(settings: Any) -> Iterator[Finding]:
    for patient in patients(settings):
        yield patient if isinstance(patient, Finding) else looked_at(patient)


def looked_at(patient: Patient) -> Finding:
    window = patient.window()
    try:
        answer = patient.here.start([window], 1).result()[0]
        taken = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            again = patient.here.start([window], 1).result()[0]
            taken.append(time.perf_counter() - started)
        expected = patient.there.run([window])[0]
    except Exception as error:
        return Finding("fault", patient.name, f"fails: {type(error).__name__}: {error}")
    arithmetic = patient.here.suited([window]).name
    difference = Difference.between(answer, expected, window)
    kept = not isinstance(window, InpaintWindow) or np.array_equal(
        answer[window.hole == 0], window.pixels[window.hole == 0]
    )
    text = f"{1000 * min(taken):.1f} ms at {patient.side} in {arithmetic}; from a processor's {difference}"
    if not kept:
        text = f"changes pixels outside the hole; {text}"
    if not np.array_equal(answer, again):
        text = f"answers otherwise when it is asked again; {text}"
    # Sums in another order may choose another patch, which is as good.
    near = difference.within(arithmetic) or patient.chooses
    return graded(
        kept and near and np.array_equal(answer, again),
        patient.name,
        text,
        ms=1000 * min(taken),
        largest=difference.largest,
        mean=difference.mean,
        share=difference.share,
    )
