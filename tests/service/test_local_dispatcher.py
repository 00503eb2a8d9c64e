"""From bytes to bytes without HTTP, and the dispatcher that does the same on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from service.engine.residency import Residency
from service.engine.runtimes.torch_runtime import TorchRuntime
from service.errors import (
    Cancelled,
    ComputeFailed,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Problem,
    Unavailable,
    Unprocessable,
    UnsupportedImage,
)
from service.local.dispatcher import LocalDispatcher
from service.local.pipeline import Pipeline
from service.observability.metrics import Metrics
from service.work import InpaintParameters, Result, Run, UpscaleParameters
from tests.service.dispatchers import answered, run_of
from tests.service.engines import until
from tests.service.pictures import noise, pixels_of, png, square
from tests.service.toys import ToyEnlarge, ToyFill, install_toys


@pytest.fixture
def settings(monkeypatch, tmp_path):
    return install_toys(monkeypatch, tmp_path, codec_threads=2)


@pytest.fixture
def pipeline(settings) -> Iterator[Pipeline]:
    pipeline = Pipeline(settings, Metrics())
    yield pipeline
    pipeline.close()


def fill(image: bytes, mask: bytes | None, seconds: float = 60, sketch: bytes | None = None, **options: Any):
    return run_of(
        "inpaint", "toy-fill", image, InpaintParameters(**options), seconds, mask=mask, sketch=sketch
    )


def enlarge(image: bytes, **options: Any) -> Run:
    return run_of("upscale", "toy-enlarge", image, UpscaleParameters(**options))


def test_a_hole_is_filled_and_nothing_else_changes(pipeline):
    picture, mask = noise(70, 90), square(70, 90)
    result = answered(pipeline, fill(png(picture), png(mask)))
    answer = pixels_of(result.content)
    assert np.array_equal(answer[mask == 0], picture[mask == 0])
    assert not np.array_equal(answer[mask > 0], picture[mask > 0])
    assert (result.width, result.height, result.windows, result.model) == (90, 70, 1, "toy-fill")
    assert result.hole == pytest.approx(81 / 6300)
    assert set(result.timings) == {"decode", "queue", "compute", "encode"}
    assert min(result.timings.values()) > 0


def test_a_light_caller_waits_for_a_turn_of_the_threads_and_not_for_all_pictures_of_another(pipeline):
    image, answers = png(noise(40, 40)), []

    async def one(owner: str) -> None:
        run = enlarge(image, scale=1)
        run.work = replace(run.work, owner=owner)
        await pipeline.answer(run)
        answers.append(owner)

    async def all_of_them() -> None:
        gate = threading.Event()
        for _ in range(pipeline.threads):
            pipeline.decoders.submit(gate.wait, 10)
        heavy = [asyncio.create_task(one("heavy")) for _ in range(40)]
        await asyncio.sleep(0)
        light = asyncio.create_task(one("light"))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(light, *heavy)

    asyncio.run(all_of_them())
    assert answers.index("light") < 20


def test_an_empty_mask_runs_no_network(pipeline, monkeypatch):
    monkeypatch.setattr(ToyFill, "forward", None)
    picture = noise(40, 40)
    result = answered(pipeline, fill(png(picture), png(square(40, 40, 0))))
    assert np.array_equal(pixels_of(result.content), picture)
    assert (result.hole, result.windows) == (0.0, 0)


def test_a_full_mask_is_refused(pipeline):
    with pytest.raises(Unprocessable, match="whole picture"):
        answered(pipeline, fill(png(noise(40, 40)), png(np.full((40, 40), 255, np.uint8))))


def test_a_hole_larger_than_the_window_is_filled_small_and_enlarged(pipeline, monkeypatch):
    enlarged = []
    render = ToyEnlarge.render

    def watched(self, features, scale, **place):
        enlarged.append(scale)
        return render(self, features, scale, **place)

    monkeypatch.setattr(ToyEnlarge, "render", watched)
    picture, mask = noise(120, 200), square(120, 200, side=70, at=(30, 50))
    answer = pixels_of(answered(pipeline, fill(png(picture), png(mask))).content)
    assert np.array_equal(answer[mask == 0], picture[mask == 0])
    assert not np.array_equal(answer[mask > 0], picture[mask > 0])
    assert enlarged
    assert min(map(min, enlarged)) > 1


def test_transparency_is_the_hole_where_there_is_no_mask_and_is_opaque_afterwards(pipeline):
    picture = noise(50, 60, 4)
    picture[..., 3] = 255 - square(50, 60)
    answer = pixels_of(answered(pipeline, fill(png(picture), None)).content)
    assert (answer[..., 3] == 255).all()
    known = picture[..., 3] > 0
    assert np.array_equal(answer[known], picture[known])


def test_alpha_is_kept_where_a_mask_says_what_the_hole_is(pipeline):
    picture, mask = noise(50, 60, 4), square(50, 60)
    answer = pixels_of(answered(pipeline, fill(png(picture), png(mask))).content)
    assert np.array_equal(answer[..., 3], picture[..., 3])


def test_without_mask_and_transparency_there_is_nothing_to_fill(pipeline):
    with pytest.raises(Unprocessable, match="no mask"):
        answered(pipeline, fill(png(noise(40, 40)), None))


def test_a_sketch_guides_the_fill(pipeline):
    picture, mask = noise(32, 32), square(32, 32, 20)
    sketch = np.full((32, 32), 255, np.uint8)
    sketch[10, :] = 0
    answer = pixels_of(answered(pipeline, fill(png(picture), png(mask), sketch=png(sketch))).content)
    assert (answer[10, 6:26] == 0).all()
    assert np.array_equal(answer[mask == 0], picture[mask == 0])


def test_a_seed_makes_another_fill_of_models_that_draw(settings):
    """Also where several share a batch, each with its own."""

    def drawn(seed: int) -> Run:
        files = {"mask": png(square(32, 32, 20))}
        return run_of("inpaint", "toy-draw", png(noise(32, 32)), InpaintParameters(seed=seed), **files)

    async def scenario(dispatcher: LocalDispatcher) -> list[Result]:
        return await asyncio.gather(*(dispatcher.submit(drawn(seed)) for seed in (0, 10, 20, 30)))

    answers = [pixels_of(result.content)[15, 15, 0] for result in with_dispatcher(settings, scenario)]
    assert answers == [0, 26, 51, 76]


def test_a_seed_is_refused_by_models_that_draw_nothing(pipeline):
    with pytest.raises(Unprocessable, match="draws nothing"):
        answered(pipeline, fill(png(noise(40, 40)), png(square(40, 40)), seed=3))


@pytest.mark.parametrize("scale", [1.1, 2.0, 2.7, 4.0])
def test_tiles_join_without_a_seam(pipeline, scale):
    picture = noise(61, 83)
    result = answered(pipeline, enlarge(png(picture), scale=scale))
    out = (int(61 * scale + 0.5), int(83 * scale + 0.5))
    answer = pixels_of(result.content)
    assert answer.shape == (*out, 3)
    assert result.windows > 1
    net, whole = ToyEnlarge(), torch.from_numpy(picture).permute(2, 0, 1).float()[None] / 255
    factor = Fraction(repr(scale))
    with torch.inference_mode():
        expected = net.render(net.features(whole), (factor, factor), region=(0, 0, *out))[0]
    expected_pixels = (expected.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(answer.astype(int) - expected_pixels).max() <= 1


def test_a_scale_of_one_is_the_picture_itself(pipeline):
    picture = noise(33, 21, dtype=np.uint16)
    result = answered(pipeline, enlarge(png(picture), scale=1.0))
    assert np.array_equal(pixels_of(result.content), picture)
    assert result.windows == 0


def test_alpha_is_enlarged_with_the_picture(pipeline):
    picture = noise(20, 20, 4)
    picture[..., 3] = square(20, 20)
    answer = pixels_of(answered(pipeline, enlarge(png(picture), scale=2.0)).content)
    assert answer.shape == (40, 40, 4)
    assert len(np.unique(answer[..., 3])) > 1
    picture[..., 3] = 77
    assert (pixels_of(answered(pipeline, enlarge(png(picture), scale=2.0)).content)[..., 3] == 77).all()


def test_gray_stays_png(pipeline):
    plane = noise(40, 40, 1)[..., 0]
    filled = pixels_of(answered(pipeline, fill(png(plane), png(square(40, 40)))).content)
    assert filled.ndim == 2
    outside = square(40, 40) == 0
    assert np.array_equal(filled[outside], plane[outside])
    assert pixels_of(answered(pipeline, enlarge(png(plane), scale=1.5)).content).shape == (60, 60)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_any_size_is_served(pipeline, height, width):
    picture = png(noise(height, width))
    assert pixels_of(answered(pipeline, enlarge(picture, scale=2.5)).content).shape[:2] == (
        max(1, int(height * 2.5 + 0.5)),
        max(1, int(width * 2.5 + 0.5)),
    )
    if height * width > 1:
        mask = np.zeros((height, width), np.uint8)
        mask[0, 0] = 255
        assert pixels_of(answered(pipeline, fill(picture, png(mask))).content).shape == (height, width, 3)


def test_results_beyond_the_limits_are_refused_before_anything_is_decoded(monkeypatch, tmp_path):
    settings = install_toys(monkeypatch, tmp_path, max_pixels=10_000)
    pipeline = Pipeline(settings, Metrics())
    monkeypatch.setattr("service.local.pipeline.decode", None)
    with pytest.raises(Unprocessable, match="10000"):
        answered(pipeline, enlarge(png(noise(60, 60)), scale=4.0))
    pipeline.close()


def test_memory_is_given_back_after_failures(settings, monkeypatch):
    pipeline = Pipeline(settings.model_copy(update={"pixel_budget": 5000}), Metrics())
    full = png(np.full((60, 60), 255, np.uint8))
    for _ in range(5):
        with pytest.raises(Unprocessable):
            answered(pipeline, fill(png(noise(60, 60)), full))
    assert answered(pipeline, fill(png(noise(60, 60)), png(square(60, 60)))).windows == 1
    pipeline.close()


def with_dispatcher(settings: Any, scenario: Any) -> Any:
    async def main() -> Any:
        dispatcher = LocalDispatcher(settings, Metrics(), on_death=lambda: None)
        await dispatcher.start()
        try:
            return await scenario(dispatcher)
        finally:
            await dispatcher.stop(5)

    return asyncio.run(main())


def test_many_jobs_at_once_share_batches_and_answer_as_alone(settings, pipeline):
    runs = [fill(png(noise(40, 40, seed=i)), png(square(40, 40, at=(i, i)))) for i in range(12)]
    runs += [enlarge(png(noise(30, 30, seed=i)), scale=1.0 + i / 3) for i in range(6)]

    async def scenario(dispatcher: LocalDispatcher) -> list[Result]:
        return await asyncio.gather(*map(dispatcher.submit, runs))

    for result, run in zip(with_dispatcher(settings, scenario), runs, strict=True):
        alone = pixels_of(answered(pipeline, Run(run.work, run.deadline)).content)
        assert np.abs(pixels_of(result.content).astype(int) - alone).max() <= 1


def test_the_default_models_are_warm_before_it_is_ready(settings):
    async def scenario(dispatcher: LocalDispatcher) -> None:
        assert dispatcher.ready()[0] is False
        while not dispatcher.ready()[0]:
            await asyncio.sleep(0)
        rows = {row["name"]: row for row in dispatcher.models()}
        assert rows["toy-fill"]["resident"]
        assert rows["toy-fill"]["device_bytes"] > 0
        await dispatcher.unload("toy-fill")
        assert not next(row for row in dispatcher.models() if row["name"] == "toy-fill")["resident"]
        with pytest.raises(NotFound):
            await dispatcher.unload("toy-fill")
        await dispatcher.load("toy-fill")
        with pytest.raises(NotFound):
            await dispatcher.load("nonesuch")

    with_dispatcher(settings, scenario)


def test_it_is_not_ready_while_no_default_model_could_be_loaded(settings, monkeypatch):
    load = Residency.get

    def full(residency: Residency, name: str) -> Any:
        raise Unavailable(f"no memory for {name}")

    monkeypatch.setattr(Residency, "get", full)

    async def scenario(dispatcher: LocalDispatcher) -> None:
        await dispatcher.warmed()
        alive, reason = dispatcher.ready()
        assert not alive
        assert "no memory for toy-fill" in reason
        monkeypatch.setattr(Residency, "get", load)
        await dispatcher.load("toy-fill")
        assert dispatcher.ready() == (True, "")

    with_dispatcher(settings, scenario)


def test_another_arithmetic_is_another_answer(settings, monkeypatch):
    async def scenario(dispatcher: LocalDispatcher) -> str:
        digest = dispatcher.resolve("inpaint", "toy-fill")[1]
        assert {row["digest"] for row in dispatcher.models() if row["name"] == "toy-fill"} == {digest}
        return digest

    plain = with_dispatcher(settings, scenario)
    monkeypatch.setattr(TorchRuntime, "arithmetic", lambda self, entry: "cuda-tf32")
    assert with_dispatcher(settings, scenario) == f"{plain}+cuda-tf32"


def test_problems_reach_the_caller_as_they_are(settings):
    async def scenario(dispatcher: LocalDispatcher) -> None:
        picture, mask = png(noise(40, 40)), png(square(40, 40))
        with pytest.raises(UnsupportedImage):
            await dispatcher.submit(fill(b"no picture", mask))
        with pytest.raises(DeadlineExceeded):
            await dispatcher.submit(fill(picture, mask, seconds=-1))
        assert (await dispatcher.submit(fill(picture, mask))).windows == 1

    with_dispatcher(settings, scenario)


def test_a_client_that_leaves_marks_its_job_and_frees_its_place(settings, monkeypatch):
    async def scenario(dispatcher: LocalDispatcher) -> None:
        run = fill(png(noise(40, 40)), png(square(40, 40)))
        task = asyncio.create_task(dispatcher.submit(run))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run.cancelled.is_set()
        assert dispatcher.in_flight.count == 0

    with_dispatcher(settings, scenario)


def test_a_full_queue_is_refused_and_counted(settings, monkeypatch):
    async def scenario(dispatcher: LocalDispatcher) -> None:
        monkeypatch.setattr(dispatcher._admission, "_backlog", lambda: 1000.0)
        with pytest.raises(Overloaded) as refused:
            await dispatcher.submit(fill(png(noise(40, 40)), png(square(40, 40))))
        assert refused.value.retry_after == pytest.approx(970)
        assert 'retouch_rejected_total{reason="queue"} 1.0' in dispatcher._metrics.exposition().decode()

    with_dispatcher(settings, scenario)


def test_a_dead_engine_is_seen_and_nobody_hangs(settings, monkeypatch):
    class Poison(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Poison

    async def scenario(dispatcher: LocalDispatcher) -> None:
        while not dispatcher.ready()[0]:
            await asyncio.sleep(0)
        monkeypatch.setattr(ToyFill, "forward", die)
        with pytest.raises(Unavailable):
            await dispatcher.submit(fill(png(noise(40, 40)), png(square(40, 40))))
        await asyncio.to_thread(until, lambda: not dispatcher.ready()[0])

    with_dispatcher(settings, scenario)


def test_a_stopping_dispatcher_finishes_what_it_accepted(settings):
    async def scenario() -> None:
        dispatcher = LocalDispatcher(settings, Metrics())
        await dispatcher.start()
        run = fill(png(noise(40, 40)), png(square(40, 40)))
        accepted = asyncio.create_task(dispatcher.submit(run))
        await asyncio.sleep(0)
        await dispatcher.stop(10)
        assert (await accepted).windows == 1
        with pytest.raises(Unavailable):
            await dispatcher.submit(run)
        assert dispatcher.ready()[0] is False

    asyncio.run(scenario())


def test_every_failure_is_a_problem_of_this_job(pipeline, monkeypatch):
    def broken(*_: Any) -> None:
        raise RuntimeError("injected")

    run = fill(png(noise(40, 40)), png(square(40, 40)))
    with monkeypatch.context() as patch:
        patch.setattr(ToyFill, "forward", broken)
        with pytest.raises(ComputeFailed):
            answered(pipeline, run)
    run.cancelled.set()
    with pytest.raises(Cancelled) as left:
        answered(pipeline, run)
    assert isinstance(left.value, Problem)
