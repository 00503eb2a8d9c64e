"""What enlarging costs: Meta-Upscale against its formula written out, and whole pictures a second.

    python bench/upscale.py [--threads 2] [--rounds 3] [--scales 2.7 1.37 3.1416]

Each form runs in a process of its own, so that its peak memory is its own.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

# As in the service: a thread that waits by spinning takes its core from whoever else needs it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models import manifest
from models.layers.meta_upscale import MetaUpscale
from models.layers.placement import Axis, enlarged

SIDE, CHANNELS, HIDDEN = 128, 64, 256
PICTURE = 256


def plain(layer: MetaUpscale, features: Tensor, rows: Axis, columns: Axis, inverse: float) -> Tensor:
    """The formula as it is printed: unfold, predict every pixel's weights, multiply."""
    down, across = torch.tensor(rows.sources()), torch.tensor(columns.sources())
    position = (down[:, None] * features.shape[-1] + across).flatten()
    vertical, horizontal = torch.tensor(rows.offsets()), torch.tensor(columns.offsets())
    hidden = layer.hidden_values(vertical, horizontal, inverse).flatten(0, 1)
    weights = layer.leave(hidden).view(-1, layer.channels * 9, layer.colours)
    windows = F.unfold(features, 3, padding=1)[0].t()[position]
    answer = torch.bmm(windows[:, None], weights)
    return answer[:, 0].t().reshape(1, layer.colours, rows.count, columns.count)


def memory(name: str) -> float:
    """MB of this process: VmRSS now, or VmHWM at its highest."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def fastest(run: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


@torch.inference_mode()
def measure(form: str, scale: str, threads: int, rounds: int) -> tuple[str, float, float, Tensor]:
    """The form that ran, its best time in s, its peak memory in MB, and what it answers in one corner."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer = MetaUpscale(CHANNELS, HIDDEN)
    # Channels last, as the service's networks hand their features on.
    features = torch.randn(1, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
    factor = Fraction(scale)
    axis = Axis(factor, 0, enlarged(SIDE, factor))
    if form == "chosen":
        form = layer.cheapest(features, axis, axis)
        render = getattr(layer, form)
        run = lambda: render(features, axis, axis, (0, 0), float(1 / factor))  # noqa: E731
    else:
        run = lambda: plain(layer, features, axis, axis, float(1 / factor))  # noqa: E731
    before = memory("VmRSS")
    answer = run()
    peak = memory("VmHWM") - before
    return form, fastest(run, rounds), peak, answer[..., :64, :64].clone()


def alone(*arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments).result()


def compare(scales: list[str], threads: int, rounds: int) -> None:
    print(f"Meta-Upscale alone: {CHANNELS} features of {SIDE}x{SIDE}, {HIDDEN} hidden, {threads} threads\n")
    print("| scale | formula | ours | form | faster | formula MB | ours MB | memory | largest difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for scale in scales:
        _, slow, much, truth = alone("plain", scale, threads, 2)
        form, fast, little, answer = alone("chosen", scale, threads, rounds)
        error = float((truth - answer).abs().max() / truth.std())
        cells = [f"x{scale}", f"{slow:.3f} s", f"{fast:.3f} s", form, f"{slow / fast:.1f}x"]
        cells += [f"{much:.0f}", f"{little:.0f}", f"{little / much:.1%}", f"{error:.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)


@torch.inference_mode()
def whole(device: torch.device, rounds: int) -> None:
    print(f"\nWhole pictures, {PICTURE}x{PICTURE} at x2.7, on {device}\n")
    print("| model | features | rendering | pictures/s |\n| --- | --- | --- | --- |")
    for entry in manifest.installed().values():
        if entry.task != "upscale":
            continue
        net: Any = models.load(entry.name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = torch.rand(1, 3, PICTURE, PICTURE, device=device).to(memory_format=torch.channels_last)

        def finished(answer: Tensor) -> Tensor:
            if device.type == "cuda":
                torch.cuda.synchronize()
            return answer

        features = finished(net.features(image))
        finished(net.render(features, 2.7))
        first = fastest(lambda: finished(net.features(image)), rounds)  # noqa: B023
        second = fastest(lambda: finished(net.render(features, 2.7)), rounds)  # noqa: B023
        print(f"| {entry.name} | {first:.3f} s | {second:.3f} s | {1 / (first + second):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scales", nargs="+", default=["2.7", "1.37", "3.1416"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compare(arguments.scales, arguments.threads, arguments.rounds)
    whole(torch.device("cuda" if torch.cuda.is_available() else "cpu"), arguments.rounds)
