"""The way over a GPU, with what only a GPU has played by the processor: streams, graphs, failures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.manifest import ModelEntry
from service.engine.catalogue import GRID, Catalogue
from service.engine.cuda.arithmetic import FLOAT32, HALVES, Arithmetic
from service.engine.cuda.graphs import MOST, Graphs
from service.engine.cuda.resident import CudaResident
from service.engine.engines import Engines
from service.engine.faults import DeviceLost, meaning
from service.engine.runtimes.resident import TorchResident
from service.engine.windows import InpaintWindow, Pixels, UpscaleTile, Window
from service.errors import Cancelled, DeadlineExceeded, Unavailable
from service.imaging.windows import plan_holes
from tests.service.engines import FakeResident, FakeRuntime, make_engine, make_run, window
from tests.service.pictures import noise
from tests.service.toys import ToyEnlarge, ToyFill, install_toys

CPU = torch.device("cpu")


class HostStreams:
    """Copies nothing, and has all of it back at once."""

    def __init__(self) -> None:
        self.fetches = 0

    def sent(self, planes: Any) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.stack(arrays)) for name, arrays in planes.items()}

    def computes(self) -> Any:
        return nullcontext()

    def fetched(self, answer: Tensor, finish: Callable[[Tensor], Any]) -> Future[Any]:
        self.fetches += 1
        future: Future[Any] = Future()
        try:
            future.set_result(finish(answer.clone()))
        except Exception as error:
            future.set_exception(error)
        return future


class Recorded:
    """A graph as it is seen from outside: the same inputs and the same answer, filled anew by each replay."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Any, Tensor, int]:
        self.captures += 1
        self.compute, self.answer = compute, compute()
        outer = self

        class Graph:
            compute, answer = self.compute, self.answer

            def replay(self) -> None:
                outer.replays += 1
                self.answer.copy_(type(self).compute())

        return Graph(), self.answer, 10


def on_gpu(net: nn.Module, arithmetic: Arithmetic = FLOAT32, capture: Any = None) -> CudaResident:
    streams: Any = HostStreams()
    return CudaResident(net, CPU, arithmetic, 100, streams, Graphs(capture))


def hole_window(seed: int, side: int = 32, dtype: type = np.uint8) -> InpaintWindow:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, np.iinfo(dtype).max, (side, side, 3), endpoint=True).astype(dtype)
    return InpaintWindow(pixels, (random.random((side, side)) < 0.3).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_answers_are_those_of_a_processor_at_every_repetition(dtype):
    capture = Recorded()
    resident, plain = on_gpu(ToyFill(), capture=capture), TorchResident(ToyFill(), CPU)
    for seed in range(4):
        windows = [hole_window(seed + number, dtype=dtype) for number in range(3)]
        for answer, wanted in zip(resident.start(windows, 4).result(), plain.run(windows), strict=True):
            assert answer.dtype == dtype
            assert np.abs(answer.astype(int) - wanted).max() <= 1
    assert (capture.captures, capture.replays) == (1, 3)


def test_company_changes_no_bit():
    resident = on_gpu(ToyFill(), capture=Recorded())
    alone = resident.start([hole_window(7)], 4).result()[0]
    for place in range(4):
        windows = [hole_window(seed) for seed in range(4)]
        windows[place] = hole_window(7)
        assert np.array_equal(resident.start(windows, 4).result()[place], alone)


def test_tiles_share_their_features_and_one_way_back():
    resident = on_gpu(ToyEnlarge(), capture=Recorded())
    tiles = [
        UpscaleTile(
            noise(24, 24, seed=seed), (Fraction(scale), Fraction(scale)), (0, 0), (0, 0, 10, 3 + seed)
        )
        for seed, scale in enumerate((1.5, 2.0, 3.25))
    ]
    for _ in range(3):
        answers = resident.start(tiles, 5).result()
    for answer, tile in zip(answers, tiles, strict=True):
        assert np.array_equal(answer, TorchResident(ToyEnlarge(), CPU).run([tile])[0])
    assert resident._streams.fetches == 3


class Overflowing(nn.Module):
    """In half precision not finite where the picture is black, and nowhere in float32."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        bright = image.mean((1, 2, 3), keepdim=True) > 0
        if torch.is_autocast_enabled("cpu"):
            return torch.where(bright, torch.full_like(image, 0.25), image / 0)
        return torch.full_like(image, 0.75)


def test_only_the_window_that_overflows_is_computed_again():
    resident = on_gpu(Overflowing(), HALVES["bfloat16"])
    windows = [hole_window(seed) for seed in range(3)]
    windows[1] = InpaintWindow(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))
    answers = resident.start(windows, 3).result()
    filled = [int(answer[window.hole == 1][0, 0]) for answer, window in zip(answers, windows, strict=True)]
    assert filled == [64, 191, 64]


def test_what_cannot_be_captured_runs_kernel_by_kernel_and_says_so_once(caplog):
    def refuses(_: Callable[[], Tensor]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    resident = on_gpu(ToyFill(), capture=refuses)
    wanted = TorchResident(ToyFill(), CPU).run([hole_window(1)])[0]
    for _ in range(4):
        assert np.array_equal(resident.start([hole_window(1)], 1).result()[0], wanted)
    assert resident.eager == 1
    assert caplog.text.count("kernel by kernel") == 1


def test_the_least_recently_used_graph_goes_and_shapes_that_come_once_get_none():
    capture = Recorded()
    graphs = Graphs(capture)
    inputs = {"x": torch.ones(2)}

    def use(key: int) -> None:
        assert graphs.run(key, lambda given: given["x"] + 1, inputs).tolist() == [2, 2]

    for key in range(MOST + 1):
        use(key)
    assert capture.captures == 0
    for key in range(MOST):
        use(key)
    use(0)  # of those captured now the most recently used
    use(MOST)
    assert capture.captures == MOST + 1
    assert graphs.bytes == 10 * MOST
    use(0)
    assert capture.captures == MOST + 1
    use(1)
    assert capture.captures == MOST + 2


def test_an_answer_does_not_change_when_its_graph_is_replayed():
    graphs = Graphs(Recorded())
    answers = [graphs.run("k", lambda given: given["x"] * 2, {"x": torch.tensor([n])}) for n in range(4)]
    assert [int(answer) for answer in answers] == [0, 2, 4, 6]


def accelerator_error(text: str, code: int | None) -> Exception:
    error = torch.AcceleratorError(text)
    if code is not None:
        error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), torch.OutOfMemoryError),
        (accelerator_error("CUDA error: out of memory", 2), torch.OutOfMemoryError),
        (accelerator_error("CUDA error: out of memory", None), torch.OutOfMemoryError),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            torch.OutOfMemoryError,
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            torch.OutOfMemoryError,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"), torch.OutOfMemoryError),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), torch.OutOfMemoryError),
        (RuntimeError("BFCArena: Failed to allocate memory for requested buffer"), torch.OutOfMemoryError),
        (accelerator_error("CUDA error: an illegal memory access was encountered", 700), DeviceLost),
        (accelerator_error("CUDA error: device-side assert triggered", 710), DeviceLost),
        (accelerator_error("CUDA error: uncorrectable ECC error encountered", 214), DeviceLost),
        (accelerator_error("CUDA error: unspecified launch failure", None), DeviceLost),
        (
            accelerator_error("CUDA error: too many resources requested for launch", 701),
            torch.AcceleratorError,
        ),
        (accelerator_error("operation failed due to a previous error during capture", 901), RuntimeError),
        (RuntimeError("expected a 4-dimensional input"), RuntimeError),
    ],
)
def test_too_little_memory_is_told_from_a_lost_device(error, kind):
    meant = meaning(error)
    assert isinstance(meant, kind)
    assert isinstance(meant, DeviceLost) == (kind is DeviceLost)
    assert isinstance(meant, torch.OutOfMemoryError) == (kind is torch.OutOfMemoryError)


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize("place", [TorchResident, on_gpu])
def test_a_resident_says_what_an_error_means(place):
    made = (lambda net: TorchResident(net, CPU)) if place is TorchResident else place
    full = made(Failing(RuntimeError("CUDNN_STATUS_ALLOC_FAILED"))).start([hole_window(1)], 1)
    assert isinstance(full.exception(), torch.OutOfMemoryError)
    lost = made(Failing(accelerator_error("illegal memory access", 700))).start([hole_window(1)], 1)
    assert isinstance(lost.exception(), DeviceLost)


# The engine over a device with streams.

COMPUTE = 0.02


class Device:
    """Copies in, computes and copies out, each one batch at a time, in threads that sleep."""

    def __init__(self, copy: float, compute: float) -> None:
        self.copy, self.compute = copy, compute
        self.computed: list[tuple[float, float]] = []
        self.most = self.open = 0
        self._lanes = [ThreadPoolExecutor(1) for _ in range(3)]

    def start(self, answer: Callable[[], list[Pixels]]) -> Future[list[Pixels]]:
        future: Future[list[Pixels]] = Future()
        self.open += 1
        self.most = max(self.most, self.open)

        def copy_in() -> None:
            time.sleep(self.copy)
            self._lanes[1].submit(compute)

        def compute() -> None:
            began = time.monotonic()
            time.sleep(self.compute)
            self.computed.append((began, time.monotonic()))
            self._lanes[2].submit(copy_out)

        def copy_out() -> None:
            time.sleep(self.copy)
            self.open -= 1
            try:
                future.set_result(answer())
            except Exception as error:
                future.set_exception(error)

        self._lanes[0].submit(copy_in)
        return future

    @property
    def busy(self) -> float:
        """The share of the time from its first to its last computing that it computed."""
        return sum(end - began for began, end in self.computed) / (self.computed[-1][1] - self.computed[0][0])

    def close(self) -> None:
        for lane in self._lanes:
            lane.shutdown()


class StreamingResident(FakeResident):
    def start(self, windows: Sequence[Window], batch: int) -> Future[list[Pixels]]:
        return self.runtime.gpu.start(lambda: self._run(windows))  # type: ignore[attr-defined]


class StreamingRuntime(FakeRuntime):
    in_flight = 2

    def __init__(self, copy: float = 0.0, compute: float = COMPUTE) -> None:
        super().__init__()
        self.gpu = Device(copy, compute)

    def load(self, entry: ModelEntry) -> StreamingResident:
        assert self.gpu.open == 0, "loading measures the device, which has to be idle"
        self.loaded.append(entry.name)
        return StreamingResident(self, entry)


@pytest.fixture
def gpu() -> Iterator[StreamingRuntime]:
    runtime = StreamingRuntime()
    yield runtime
    runtime.gpu.close()


def test_two_batches_in_flight_keep_the_device_busy():
    runtime = StreamingRuntime(copy=0.03, compute=0.12)  # in and out together half of what computing takes
    engine = make_engine(runtime, max_batch=1)
    engine.load("a").result(5)
    runtime.gpu.computed.clear()
    futures = [engine.compute(make_run(), "a", [window(value)]) for value in range(8)]
    assert [int(future.result(5).outputs[0][0, 0, 0]) for future in futures] == list(range(1, 9))
    assert runtime.gpu.busy >= 0.95
    assert runtime.gpu.most == 2
    engine.stop(5)
    runtime.gpu.close()


def test_answers_come_in_order_and_windows_gather_behind_two_batches(gpu):
    engine = make_engine(gpu)
    engine.load("a").result(5)
    gpu.batches.clear()
    gpu.gate.clear()
    futures = [engine.compute(make_run(), "a", [window(value)]) for value in range(2)]
    gpu.until_busy()
    futures += [engine.compute(make_run(), "a", [window(value)]) for value in range(2, 6)]
    gpu.gate.set()
    assert [int(future.result(5).outputs[0][0, 0, 0]) for future in futures] == [1, 2, 3, 4, 5, 6]
    assert len(gpu.batches) <= 3
    engine.stop(5)


def test_what_waits_behind_two_batches_can_still_be_cancelled_or_be_late(gpu):
    engine = make_engine(gpu)
    engine.load("a").result(5)
    gpu.gate.clear()
    running = [engine.compute(make_run(), "a", [window(value, side=8 * (1 + value))]) for value in range(2)]
    gpu.until_busy(2)
    gone, late = make_run(), make_run(seconds=0)
    waiting = [engine.compute(run, "a", [window(5)]) for run in (gone, late)]
    gone.cancelled.set()
    gpu.gate.set()
    for future in running:
        future.result(5)
    with pytest.raises(Cancelled):
        waiting[0].result(5)
    with pytest.raises(DeadlineExceeded):
        waiting[1].result(5)
    engine.stop(5)


def test_another_model_is_loaded_when_the_device_is_idle(gpu):
    engine = make_engine(gpu)
    futures = [engine.compute(make_run(), model, [window(1)]) for model in "abab"]
    futures += [engine.load("c")]
    for future in futures:
        future.result(5)
    assert sorted(gpu.loaded) == ["a", "b", "c"]
    engine.stop(5)


def test_a_batch_that_runs_out_of_memory_is_halved(gpu):
    def at_most_two(windows: Sequence[Window]) -> None:
        if len(windows) > 2:
            raise torch.OutOfMemoryError("injected")

    engine = make_engine(gpu)
    engine.load("a").result(5)
    gpu.before_answer = at_most_two
    future = engine.compute(make_run(), "a", [window(value) for value in range(8)])
    assert [int(output[0, 0, 0]) for output in future.result(5).outputs] == list(range(1, 9))
    engine.stop(5)


def test_out_of_memory_while_loading_or_measuring_makes_room_or_is_said(gpu):
    engine = make_engine(gpu)
    engine.load("a").result(5)

    def room(resident: Any, window: Window, most: int) -> int:
        if resident.name == "huge" or engine.resident():
            raise torch.OutOfMemoryError("injected")
        return most

    gpu.room = room  # type: ignore[method-assign]
    engine.load("b").result(5)
    assert set(engine.resident()) == {"b"}
    with pytest.raises(Unavailable):
        engine.load("huge").result(5)
    engine.load("b").result(5)
    engine.stop(5)


@pytest.mark.parametrize("place", ["load", "room", "answer"])
def test_a_device_lost_anywhere_answers_everyone_and_ends_the_process(gpu, place):
    ended = threading.Event()
    engine = make_engine(gpu, on_death=ended.set)

    def lose(*_: Any) -> Any:
        raise DeviceLost("injected")

    setattr(gpu, "before_answer" if place == "answer" else place, lose)
    futures = [engine.compute(make_run(), "a", [window(value)]) for value in range(3)]
    for future in futures:
        with pytest.raises(Unavailable):
            future.result(5)
    assert ended.wait(5)
    assert not engine.ready()[0]


# Several devices.


def test_windows_go_to_the_device_with_the_least_to_do():
    first, second = FakeRuntime(), FakeRuntime()
    engines = Engines([make_engine(runtime, max_batch=1) for runtime in (first, second)])
    engines.load("a").result(5)
    assert first.loaded == second.loaded == ["a"]
    assert engines.resident() == {"a": 200}
    many = engines.compute(make_run(), "a", [window(value) for value in range(10)])
    assert [int(output[0, 0, 0]) for output in many.result(5).outputs] == list(range(1, 11))
    assert len(first.batches) + len(second.batches) == 12  # with those of warming up
    assert min(len(first.batches), len(second.batches)) > 1
    first.gate.clear()
    before = len(first.batches)
    busy = engines.compute(make_run(), "a", [window(value) for value in range(4)])
    first.until_busy(before + 1)
    for value in range(4):
        engines.compute(make_run(), "a", [window(value)]).result(5)
    assert len(first.batches) == before + 1
    first.gate.set()
    busy.result(5)
    assert engines.ready() == (True, "")
    engines.stop(5)
    assert not engines.ready()[0]


def test_one_device_that_fails_fails_the_windows_that_were_there():
    first, second = FakeRuntime(), FakeRuntime()
    engines = Engines([make_engine(runtime) for runtime in (first, second)])
    engines.load("a").result(5)

    def full(_: Any) -> None:
        raise torch.OutOfMemoryError("injected")

    second.before_answer = full
    with pytest.raises(Unavailable, match="memory"):
        engines.compute(make_run(), "a", [window(value) for value in range(4)]).result(5)
    engines.stop(5)


# Shapes.


def shapes(grid: int) -> Counter[tuple[int, int]]:
    """Of the windows of 200 random holes in photographs of three sizes."""
    random = np.random.default_rng(5)
    counted: Counter[tuple[int, int]] = Counter()
    for _ in range(200):
        height, width = ((1200, 1600), (1080, 1920), (2000, 3000))[int(random.integers(3))]
        tall, wide = random.integers(20, 520, 2)
        top, left = random.integers(height - tall), random.integers(width - wide)
        hole = np.zeros((height, width), bool)
        hole[top : top + tall, left : left + wide] = True
        (plan,) = plan_holes(hole, 1024, grid)
        box, bound = plan.box, plan.bound
        assert box.union(bound) == box
        counted[tuple(-(-side // grid) * grid for side in plan.work)] += 1
    return counted


def test_on_a_gpu_windows_have_few_shapes_and_fill_batches():
    together = 4

    def full(counted: Counter[tuple[int, int]]) -> float:
        return 200 / sum(together * -(-count // together) for count in counted.values())

    few, many = shapes(GRID), shapes(1)
    assert len(few) <= 8
    assert len(many) > 100
    assert full(few) > 0.9 > full(many)


def test_a_gpu_has_windows_on_a_grid_and_larger_tiles(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path)
    here, there = Catalogue(settings, "cuda:1"), Catalogue(settings, "cpu")
    fill, enlarge = here.traits("toy-fill"), here.traits("toy-enlarge")
    assert (fill.grid, fill.sides.multiple, fill.sides.round_up(1)) == (GRID, GRID, GRID)
    assert enlarge.window == 512
    assert (there.traits("toy-fill").grid, there.traits("toy-enlarge").window) == (1, 24)
