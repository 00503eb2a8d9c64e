"""What only a GPU can show, in about ten minutes: its ceilings, bytes, speed, failures, service under load.

`lose_device` ends its process, and so runs in one of its own.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.registry import Task
from service.doctor.models import SIDE, Difference, Patient, example, patients
from service.doctor.report import Finding, graded
from service.engine.catalogue import Catalogue
from service.engine.engine import Engine
from service.engine.faults import DeviceLost, told
from service.engine.runtimes.torch_runtime import TorchRuntime, devices
from service.engine.windows import Pixels, Window

PRECISIONS = ("auto", "float32", "float16")
KINDS = (("float32", torch.float32, False), ("TF32", torch.float32, True), ("float16", torch.float16, False))
BATCHES = (1, 2, 4, 8, 16)
REPEATS = 20
NEAR_BEST = 1.1
CALLERS = (8, 32)
LOADED_SECONDS = 10.0
TRAINED = ("deepfill-v2", "lama-small")
TRAINED_STEPS = 20
TASKS: tuple[Task, ...] = ("inpaint", "upscale")
LOST = 3  # status of a process that noticed that its device is lost


def examined(settings: Any) -> Iterator[Finding]:
    for look in (
        ceilings,
        rounding,
        bytes_by_company,
        speed,
        scarce_memory,
        lost_device,
        under_load,
        training,
    ):
        try:
            yield from look(settings)
        except Exception as error:  # one that fails must not hide the others
            yield Finding("fault", look.__name__, f"{type(error).__name__}: {error}")
        torch.cuda.empty_cache()


def milliseconds(action: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median, each with the wait for the device."""
    action()
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


def ceilings(settings: Any) -> Iterator[Finding]:
    size, device = 1 << 28, devices(settings.device)[0]
    there = torch.empty(size, dtype=torch.uint8, device=device)
    for kind in ("pinned", "pageable"):
        host = torch.empty(size, dtype=torch.uint8, pin_memory=kind == "pinned")
        into = size / milliseconds(partial(there.copy_, host, non_blocking=True)) / 1e6
        back = size / milliseconds(partial(host.copy_, there, non_blocking=True)) / 1e6
        yield Finding("ok", f"copies, {kind}", f"{into:.1f} GB/s in, {back:.1f} GB/s out")
    inside = 2 * size / milliseconds(there.clone) / 1e6
    small = torch.zeros(1, device=device)
    launch = milliseconds(lambda: [small.add_(1) for _ in range(1000)])
    yield Finding("ok", "launches", f"{launch:.1f} us each; {inside:.0f} GB/s inside the device")
    square = torch.randn(8192, 8192, device=device)
    image, kernel = torch.randn(8, 64, 512, 512, device=device), torch.randn(64, 64, 3, 3, device=device)
    for name, kind_, tf32 in KINDS:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        side, pictures = square.to(kind_), image.to(kind_).to(memory_format=torch.channels_last)
        products = 2 * len(side) ** 3 / milliseconds(partial(torch.matmul, side, side)) / 1e9
        convolve = partial(torch.conv2d, pictures, kernel.to(kind_), padding=1)
        convolutions = 2 * image.numel() * kernel[0].numel() / milliseconds(convolve) / 1e9
        text = f"products {products:.0f}, convolutions {convolutions:.0f} TFLOP/s"
        yield Finding("ok", f"arithmetic, {name}", text)
    torch.backends.cuda.matmul.allow_tf32 = False


def rounding(settings: Any) -> Iterator[Finding]:
    """Each model in each precision, of 8 and 16 bits and with a sketch, against a processor's answer."""
    for precision in PRECISIONS:
        for patient in patients(settings, precision):
            if isinstance(patient, Finding):
                yield patient
                continue
            cases = [patient.window(), patient.window(kind=np.uint16)]
            cases += [patient.window(sketch=True)] if patient.sketch else []
            for window in cases:
                yield against_processor(patient, window, precision)


def against_processor(patient: Patient, window: Window, precision: str) -> Finding:
    answer, expected = patient.here.start([window], 1).result()[0], patient.there.run([window])[0]
    arithmetic = patient.here.suited([window]).name
    difference = Difference.between(answer, expected, window)
    drawn = ", sketch" if getattr(window, "sketch", None) is not None else ""
    about = f"{patient.name}, {precision}, {8 * window.pixels.itemsize} bits{drawn}"
    # Sums in another order may choose another patch, which is as good.
    return graded(difference.within(arithmetic) or patient.chooses, about, f"in {arithmetic}: {difference}")


def bytes_by_company(settings: Any) -> Iterator[Finding]:
    """One window in every slot, among others, again and again, and in another process: one answer."""
    for patient in patients(settings):
        if isinstance(patient, Finding):
            continue
        batch = slots(patient)
        wanted = patient.window(seed=1)
        alone = patient.here.start([wanted], batch).result()[0]
        moved = 0
        for turn in range(max(REPEATS, batch)):
            windows = [patient.window(seed=2 + turn + number) for number in range(batch)]
            windows[turn % batch] = wanted
            moved += not np.array_equal(patient.here.start(windows, batch).result()[turn % batch], alone)
        eager = np.array_equal(patient.here.run([wanted] * batch)[0], alone)
        given = (patient.name, batch, settings.device, settings.precision, str(settings.weights_dir or ""))
        elsewhere = other_process(f"print(digest(*{given!r}))")
        text = f"{batch} windows: {moved} answers changed by company, kernel by kernel "
        text += f"{'the same' if eager else 'another'}, in another process "
        same = elsewhere.strip() == hashlib.sha256(alone.tobytes()).hexdigest()
        yield graded(not moved and same, f"{patient.name}, bytes", text + ("the same" if same else "another"))


def answered(patient: Patient, windows: list[Window]) -> list[Pixels]:
    return patient.here.start(windows, len(windows)).result()


def slots(patient: Patient) -> int:
    """Windows of its graph, counted as the service counts them."""
    window = patient.window()
    runtime = TorchRuntime(SimpleNamespace(precision="auto"), patient.here.device)  # type: ignore[arg-type]
    room = runtime.room(patient.here, window, BATCHES[-1])
    return min(room, runtime.worthwhile(patient.here, window))


def digest(name: str, batch: int, device: str, precision: str, weights_dir: str) -> str:
    """Of what this process answers under the same settings."""
    folder = Path(weights_dir) if weights_dir else None
    settings = SimpleNamespace(device=device, precision=precision, weights_dir=folder)
    for patient in patients(settings):
        if isinstance(patient, Patient) and patient.name == name:
            answer = patient.here.start([patient.window(seed=1)], batch).result()[0]
            return hashlib.sha256(answer.tobytes()).hexdigest()
    return ""


def speed(settings: Any) -> Iterator[Finding]:
    """Kernel by kernel and as a graph, by batch: milliseconds a window, memory, what batch is enough."""
    for precision in PRECISIONS:
        for patient in patients(settings, precision):
            if isinstance(patient, Finding):
                continue
            found: dict[int, float] = {}
            for batch in BATCHES:
                windows = [patient.window(seed=number) for number in range(batch)]
                torch.cuda.reset_peak_memory_stats()
                try:
                    eager = milliseconds(partial(patient.here.run, windows), 5) / batch
                    for _ in range(2):
                        patient.here.start(windows, batch).result()
                    found[batch] = milliseconds(partial(answered, patient, windows), 5) / batch
                except torch.OutOfMemoryError:
                    break
                peak = torch.cuda.max_memory_allocated() / 2**20
                about = f"{patient.name}, {precision}, {batch} x {patient.side}"
                text = (
                    f"{eager:.2f} ms a window kernel by kernel, {found[batch]:.2f} as a graph, {peak:.0f} MiB"
                )
                yield Finding("ok", about, text, {"eager": eager, "graph": found[batch]})
            if not found:
                continue
            enough = min(batch for batch, taken in found.items() if taken <= NEAR_BEST * min(found.values()))
            chosen = slots(patient)
            near = found.get(chosen, 0.0) <= NEAR_BEST * min(found.values())
            text = f"{enough} windows are within a tenth of the best, {chosen} are taken (SATURATING)"
            yield Finding("ok" if near else "advice", f"{patient.name}, {precision}, batch", text)


def scarce_memory(settings: Any) -> Iterator[Finding]:
    patient = next(each for each in patients(settings) if isinstance(each, Patient) and not each.chooses)
    window = patient.window()
    before = patient.here.start([window], 1).result()[0]
    patient.here.shed()
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + (1 << 28)) / total))
    try:
        error = patient.here.start([example(SIDE, patient.inpaint)] * 512, 512).exception()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    noticed = isinstance(error, torch.OutOfMemoryError)
    again = np.array_equal(patient.here.start([window], 1).result()[0], before)
    after = "the same answer" if again else "another"
    text = f"512 windows in 256 MiB: {type(error).__name__}; afterwards {after}"
    yield graded(noticed and again, "scarce memory", text)


def lost_device(settings: Any) -> Iterator[Finding]:
    command = [sys.executable, "-c", "from service.doctor.gpu import lose_device; lose_device()"]
    status = subprocess.run(command, capture_output=True, timeout=120).returncode
    yield graded(
        status == LOST, "lost device", f"a failed assertion on the device ended its process with {status}"
    )


def lose_device() -> None:
    try:
        with told():
            torch.zeros(4, device="cuda")[torch.tensor([1 << 20], device="cuda")].sum().item()
    except DeviceLost:
        sys.exit(LOST)


def other_process(line: str) -> str:
    command = [sys.executable, "-c", f"from service.doctor.gpu import digest; {line}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


def under_load(settings: Any) -> Iterator[Finding]:
    runtime = TorchRuntime(settings, devices(settings.device)[0])
    catalogue = Catalogue(settings, runtime.device)
    metrics: Any = Anything()
    engine = Engine(settings, metrics, runtime, catalogue, lambda: None)
    engine.start()
    for task in TASKS:
        name = catalogue.default(task)
        side = catalogue.traits(name).window
        engine.load(name).result()
        each = engine.seconds(name, example(side, task == "inpaint").weight)
        for callers in CALLERS:
            done, seconds = load(engine, name, example(side, task == "inpaint"), callers)
            busy = min(1.0, done * each / seconds)
            text = f"{done / seconds:.1f} windows of {side} a second; busy {busy:.0%}, told by the pace"
            yield Finding("ok", f"{name}, {callers} callers", text)
    engine.stop(10)


def load(engine: Engine, name: str, window: Window, callers: int) -> tuple[int, float]:
    """Windows answered and the seconds that took, with so many callers who always want the next one."""
    counts: list[int] = []
    started = time.monotonic()

    def call() -> None:
        count = 0
        while time.monotonic() - started < LOADED_SECONDS:
            engine.compute(Caller(), name, [window], admitted=True).result()  # type: ignore[arg-type]
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), time.monotonic() - started


class Anything:
    """Takes the place of metrics, whose library may not be here."""

    def __getattr__(self, _: str) -> Any:
        return self

    def __call__(self, *_: Any) -> Any:
        return self


class Caller:
    """Takes the place of a run."""

    work = SimpleNamespace(owner="")
    progress: Any = Anything()

    def obstacle(self) -> None:
        return None


def training(settings: Any) -> Iterator[Finding]:
    import tomllib

    from models.training.configure import maker
    from models.training.loop import Schedule, run

    configs = Path(__file__).resolve().parents[2] / "configs"
    device = devices(settings.device)[0]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        for number in range(64):
            Image.fromarray(example(640, True, number).pixels).save(data / f"{number}.png")
        for name in TRAINED:
            config = tomllib.loads((configs / f"{name}.toml").read_text(encoding="utf-8"))
            config["recipe"]["compile"] = False  # takes minutes, once
            config["recipe"]["loss"]["perceptual"] = 0.0  # would need a feature network
            recipe = maker(config)(config, data, Path(folder) / "cache", device, None)
            torch.cuda.reset_peak_memory_stats()
            run(recipe, Schedule(10.0, steps=3), Path(folder) / "warm")
            started = time.monotonic()
            run(recipe, Schedule(10.0, steps=TRAINED_STEPS), Path(folder) / name)
            pace = TRAINED_STEPS / (time.monotonic() - started)
            peak = torch.cuda.max_memory_allocated() / 2**30
            yield Finding(
                "ok", f"training {name}", f"{pace:.2f} steps a second, {peak:.1f} GiB, not compiled"
            )
