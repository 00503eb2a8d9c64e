"""One training loop for every recipe: schedule, averaging, logs, checkpoints, and an end on time.

A recipe knows its networks, data and losses; the loop knows time. The learning rate follows the share of the
budget (of time or of steps) that is spent, so that a run of any length ends with small steps, and a run that
is stopped early still leaves its averaged weights.
"""

from __future__ import annotations

import csv
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as serialised
from torch import Tensor, nn

from models.training.errors import TrainingError

Losses = Mapping[str, "float | Tensor"]
Tell = Callable[[str], None]


def silent(_: str) -> None: ...


class Recipe(Protocol):
    net: nn.Module  # what is averaged and shipped
    modules: dict[str, nn.Module]  # everything with weights, `net` among them
    optimisers: dict[str, torch.optim.Optimizer]

    def batch(self, step: int, rng: np.random.Generator) -> Any:
        """CPU data of one step; called on a thread of its own."""

    def step(self, batch: Any, step: int) -> Losses:
        """Forward, backward and the optimisers' steps; the losses by name."""

    def sample(self, net: nn.Module) -> Image.Image | None:
        """A picture that shows how far `net` has come."""


@dataclass(frozen=True)
class Schedule:
    minutes: float
    steps: int | None = None  # ends the run if it comes before the minutes do
    seed: int = 0
    average: float = 0.999
    floor: float = 0.01  # last learning rate, as a share of the first
    warm_up: float = 0.01  # share of the budget
    kind: str = "cosine"  # or "constant"
    log_every: float = 20.0  # seconds
    save_every: float = 120.0

    def progress(self, seconds: float, step: int) -> float:
        """The share of the budget that is spent."""
        return max(seconds / (self.minutes * 60), step / self.steps if self.steps else 0.0)

    def rate(self, progress: float) -> float:
        """The share of the peak learning rate at `progress` through the budget."""
        if progress < self.warm_up:
            return max(0.02, progress / self.warm_up)
        if self.kind == "constant":
            return 1.0
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


class Average:
    """Exponential moving average of a network, quick to follow at first."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {key: value.detach().clone() for key, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in net.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.detach(), 1 - decay)
            else:
                self.state[key].copy_(value)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[nn.Module]:
        """`net` with the averaged weights, in eval mode, for as long as the block lasts."""
        kept = {key: value.detach().clone() for key, value in net.state_dict().items()}
        training = net.training
        net.load_state_dict(self.state)
        try:
            yield net.eval()
        finally:
            net.load_state_dict(kept)
            net.train(training)


class Batches:
    """Makes batches ahead on a thread; the batch of a step depends on the seed and the step alone."""

    def __init__(self, recipe: Recipe, seed: int, first: int, ahead: int = 4) -> None:
        self._recipe, self._seed, self._step = recipe, seed, first
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def _make(self) -> None:
        while not self._stopped.is_set():
            try:
                made = self._recipe.batch(self._step, np.random.default_rng((self._seed, self._step)))
            except Exception as error:  # reaches the loop, which raises it
                made = error
            self._step += 1
            while not self._stopped.is_set():
                try:
                    self._queue.put(made, timeout=0.2)
                    break
                except queue.Full:
                    continue

    def take(self) -> Any:
        made = self._queue.get()
        if isinstance(made, Exception):
            raise made
        return made

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()


def run(
    recipe: Recipe,
    schedule: Schedule,
    out: Path,
    resume: bool = True,
    tell: Tell = silent,
    leg: float = math.inf,
) -> Path:
    """Train until the budget is spent (or until told to end, or after a `leg` of so many minutes).

    Returns the file of the averaged weights.

    `tell` hears how it goes, a line at a time.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(schedule.seed)
    average = Average(recipe.net, schedule.average)
    checkpoint = out / "checkpoint.pt"
    step, spent = 0, 0.0
    if resume and checkpoint.exists():
        step, spent = restore(checkpoint, recipe, average)
    peaks = {name: [group["lr"] for group in opt.param_groups] for name, opt in recipe.optimisers.items()}
    batches = Batches(recipe, schedule.seed, step)
    log = Log(out / "log.csv", fresh=step == 0)
    started = logged = saved = time.monotonic()
    told_step = step
    begun = f"on from step {step}" if step else "begun"
    tell(f"{begun}, in {out}; Ctrl-C ends it and keeps what is learnt")
    try:
        with until_told() as told:
            while not told.is_set():
                elapsed = spent + time.monotonic() - started
                progress = schedule.progress(elapsed, step)
                if progress >= 1 or elapsed - spent >= 60 * leg:
                    break
                set_rates(recipe, peaks, schedule.rate(progress))
                losses = recipe.step(batches.take(), step)
                step += 1
                average.update(recipe.net)
                log.add(losses)
                now = time.monotonic()
                if now - logged >= schedule.log_every:
                    means = log.write(step, elapsed)
                    pace = (step - told_step) / max(now - logged, 1e-9)
                    tell(progress_line(step, means, pace, elapsed * (1 / max(progress, 1e-9) - 1)))
                    logged, told_step = now, step
                if now - saved >= schedule.save_every:
                    check(recipe.net, step)
                    save(checkpoint, recipe, average, step, elapsed)
                    write_average(average, out / "average.safetensors")
                    if picture(recipe, average, out / "sample.png"):
                        tell(f"how far it has come: {out / 'sample.png'}")
                    saved = time.monotonic()
    finally:
        batches.close()
        elapsed = spent + time.monotonic() - started
        log.write(step, elapsed)
        check(recipe.net, step)
        save(checkpoint, recipe, average, step, elapsed)
        write_average(average, out / "average.safetensors")
    picture(recipe, average, out / "sample.png")
    return out / "average.safetensors"


def check(net: nn.Module, step: int) -> None:
    """Before anything is saved over what was learnt."""
    values = (value for value in net.state_dict().values() if value.is_floating_point())
    if not all(bool(value.isfinite().all()) for value in values):
        raise TrainingError(
            f"at step {step} weights are no numbers any more: halve the config's rate; the same command goes "
            "on from what was saved before"
        )


def progress_line(step: int, means: Mapping[str, float], pace: float, left: float) -> str:
    losses = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
    return f"step {step}: {losses}; {pace:.3g} steps a second, {left / 60:.1f} minutes left"


def set_rates(recipe: Recipe, peaks: dict[str, list[float]], share: float) -> None:
    for name, optimiser in recipe.optimisers.items():
        for group, peak in zip(optimiser.param_groups, peaks[name], strict=True):
            group["lr"] = peak * share


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that a stopped run still saves; plain on other threads."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: told.set()) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Log:
    """Mean losses since the last line, as CSV: the columns are those of the first line."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self._path = path
        self._sums: dict[str, float | Tensor] = {}
        self._count = 0
        if fresh:
            path.unlink(missing_ok=True)

    def add(self, losses: Losses) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def write(self, step: int, seconds: float) -> dict[str, float]:
        """The means that were written."""
        if not self._count:
            return {}
        means = {name: round(float(total) / self._count, 6) for name, total in self._sums.items()}
        row: dict[str, Any] = {"seconds": round(seconds, 1), "step": step} | means
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)
        self._sums, self._count = {}, 0
        return means


def save(path: Path, recipe: Recipe, average: Average, step: int, elapsed: float) -> None:
    state = {
        "step": step,
        "elapsed": elapsed,
        "average": average.state,
        "averaged_steps": average.steps,
        "modules": {name: module.state_dict() for name, module in recipe.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in recipe.optimisers.items()},
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def restore(path: Path, recipe: Recipe, average: Average) -> tuple[int, float]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in recipe.modules.items():
        module.load_state_dict(state["modules"][name])
    for name, optimiser in recipe.optimisers.items():
        rates = [group["lr"] for group in optimiser.param_groups]
        optimiser.load_state_dict(state["optimisers"][name])
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate  # the config's peak, not where the schedule happened to be
    for key, value in state["average"].items():
        average.state[key].copy_(value)
    average.steps = state["averaged_steps"]
    return int(state["step"]), float(state["elapsed"])


def write_average(average: Average, path: Path) -> None:
    """Float16, as it ships: half the size, and nothing measurable lost."""
    tensors: dict[str, Tensor] = {
        key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for key, value in average.state.items()
    }
    partial = path.with_suffix(".partial")
    partial.write_bytes(serialised(tensors))  # `save_file` would keep others from reading it
    os.replace(partial, path)


def picture(recipe: Recipe, average: Average, path: Path) -> bool:
    """Whether there is one."""
    with average.applied(recipe.net) as net:
        sample = recipe.sample(net)
    if sample is not None:
        sample.save(path)
    return sample is not None
