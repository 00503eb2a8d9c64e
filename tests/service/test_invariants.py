"""What always holds, each promise tried on random requests."""

from __future__ import annotations

import ast
import asyncio
import io
import math
import pickle
import random
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import wait
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from models import create
from service.app import create_app
from service.engine.runtimes.resident import TorchResident
from service.engine.windows import UpscaleTile
from service.errors import Problem, Unavailable, Unprocessable
from service.local.budget import Budget
from service.local.dispatcher import LocalDispatcher
from service.local.pipeline import Pipeline
from service.observability.metrics import Metrics
from service.work import InpaintParameters, Result, Run, UpscaleParameters
from tests.service.conftest import free_port
from tests.service.dispatchers import answered, run_of
from tests.service.engines import FakeRuntime, make_engine, make_run, window
from tests.service.pictures import noise, pixels_of, png, saved, square
from tests.service.toys import MANIFEST, ToyFill, install_toys

ROOT = Path(__file__).resolve().parent.parent.parent
several = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # shrinking would take minutes; the seed says enough
)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield install_toys(patch, tmp_path_factory.mktemp("weights"), codec_threads=2)


@pytest.fixture(scope="module")
def pipeline(toys) -> Iterator[Pipeline]:
    pipeline = Pipeline(toys, Metrics())
    yield pipeline
    pipeline.close()


def inpainting(image: bytes, mask: bytes | None, **parameters: Any) -> Run:
    return run_of("inpaint", "toy-fill", image, InpaintParameters(**parameters), mask=mask)


def enlarging(image: bytes, **parameters: Any) -> Run:
    return run_of("upscale", "toy-enlarge", image, UpscaleParameters(**parameters))


# 1. Pixels outside the hole (and its requested feather) are byte-identical to the input's.


def stored(pixels: np.ndarray, kind: str) -> tuple[bytes, np.ndarray]:
    """The picture as a file of some kind, and the pixels that any reader finds in it."""
    image = Image.fromarray(pixels)
    if kind == "png16":
        deep = pixels.astype(np.uint16) * 251 + 7
        return png(deep), deep
    if kind == "gray16":
        plane = pixels[..., 0].astype(np.uint16) * 251 + 7
        return png(plane), plane
    modes = {"gray": "L", "gray-alpha": "LA", "colour-alpha": "RGBA", "palette": "P"}
    if kind in modes:
        if "alpha" in kind:
            image.putalpha(Image.fromarray(pixels[..., 1]))
        image = image.convert(modes[kind])
        content = saved(image, "PNG")
    else:
        content = saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    read = Image.open(io.BytesIO(content))
    wanted = {"L": "L", "LA": "RGBA", "RGBA": "RGBA"}.get(read.mode, "RGB")
    return content, np.asarray(read.convert(wanted))


KINDS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"]
KINDS += ["png16", "gray16", "gray", "gray-alpha", "colour-alpha", "palette"]


def mask_as(mode: str, mask: np.ndarray) -> bytes:
    if mode == "black":
        return png(255 - mask)
    if mode == "alpha":
        return png(np.dstack([np.zeros((*mask.shape, 3), np.uint8), 255 - mask]))
    return png(mask)


@pytest.mark.parametrize("kind", KINDS)
@settings(several, max_examples=30)
@given(
    height=st.integers(3, 90),
    width=st.integers(3, 90),
    seed=SEEDS,
    mode=st.sampled_from(["white", "black", "alpha", "auto"]),
    grow=st.integers(-3, 5),
    feather=st.integers(0, 6),
    data=st.data(),
)
def test_pixels_outside_the_hole_are_exact(pipeline, kind, height, width, seed, mode, grow, feather, data):
    content, known = stored(noise(height, width, seed=seed), kind)
    side = data.draw(st.integers(1, max(1, min(height, width) - 1)))
    at = data.draw(st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)))
    mask = square(height, width, side, at)
    run = inpainting(content, mask_as(mode, mask), mask_mode=mode, grow=grow, feather=feather)
    try:
        answer = pixels_of(answered(pipeline, run).content)
    except Unprocessable as refusal:
        if "whole picture" not in refusal.detail:
            raise
        return
    distance = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # A feather of n pixels has faded to nothing at n + 1.
    outside = distance > max(0, grow) + (feather + 1 if feather else 0)
    if answer.ndim == 2 and known.ndim == 3:
        known = known[..., 0]
    assert answer.dtype == known.dtype
    assert answer.shape == known.shape
    assert np.array_equal(answer[outside], known[outside])


# 2. A request's answer does not depend on what shares its batch.


def assert_equal_up_to_the_last_rounding(first: np.ndarray, second: np.ndarray) -> None:
    difference = np.abs(first.astype(int) - second)
    assert difference.max() <= 1
    # One value in a thousand; a small picture may have one such value all the same.
    assert np.count_nonzero(difference) <= max(1, difference.size // 1000)


@settings(several, max_examples=12)
@given(seed=SEEDS)
def test_batched_equals_single(toys, pipeline, seed):
    chance = random.Random(seed)

    def request() -> Run:
        height, width = chance.randint(1, 100), chance.randint(1, 100)
        image = png(noise(height, width, seed=chance.randrange(1000)))
        if chance.random() < 0.5 or height * width == 1:
            return enlarging(image, scale=chance.uniform(1, 4))
        at = (chance.randrange(height), chance.randrange(width))
        mask = square(height, width, chance.randint(0, 40), at)
        mask[-1, -1] = 0
        return inpainting(image, png(mask), feather=chance.randint(0, 3))

    runs = [request() for _ in range(16)]

    async def together() -> list[Result | BaseException]:
        dispatcher = LocalDispatcher(toys, Metrics())
        await dispatcher.start()
        answers = await asyncio.gather(*map(dispatcher.submit, runs), return_exceptions=True)
        await dispatcher.stop(5)
        return answers

    for answer, run in zip(asyncio.run(together()), runs, strict=True):
        run.cancelled.clear()
        if isinstance(answer, Unprocessable):
            with pytest.raises(Unprocessable):
                answered(pipeline, run)
        else:
            assert isinstance(answer, Result), answer
            alone = pixels_of(answered(pipeline, run).content)
            assert_equal_up_to_the_last_rounding(pixels_of(answer.content), alone)


def test_batched_equals_single_for_a_real_upscaler_at_mixed_scales():
    torch.manual_seed(0)
    net = create("meta-sr-small", channels=8, blocks=2, hidden=8).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    resident = TorchResident(net, torch.device("cpu"))
    tiles = []
    for seed, scale in enumerate((1.1, 2.0, 2.7, 3.9)):
        factor = Fraction(repr(scale))
        out = math.floor(32 * factor)
        tiles.append(UpscaleTile(noise(32, 32, seed=seed), (factor, factor), (0, 0), (0, 0, out, out)))
    for together, tile in zip(resident.run(tiles), tiles, strict=True):
        assert_equal_up_to_the_last_rounding(together, resident.run([tile])[0])


# 3. An empty mask answers with the input's pixels and runs no network. A full mask is a clear 422.


@pytest.mark.parametrize("mode", ["white", "black"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_runs_nothing_and_a_full_one_is_refused(pipeline, monkeypatch, kind, mode):
    monkeypatch.setattr(ToyFill, "forward", None)
    content, known = stored(noise(40, 30), kind)
    empty = np.zeros((40, 30), np.uint8)
    result = answered(pipeline, inpainting(content, mask_as(mode, empty), mask_mode=mode, feather=5))
    answer = pixels_of(result.content)
    assert np.array_equal(answer, known if known.ndim == answer.ndim else known[..., 0])
    assert (result.hole, result.windows) == (0.0, 0)
    with pytest.raises(Unprocessable) as refused:
        answered(pipeline, inpainting(content, mask_as(mode, empty + 255), mask_mode=mode))
    assert refused.value.status == 422


# 4. `scale` may be any real in 1.0 .. 8.0; the output's size is max(1, floor(side * scale + 0.5)).


@several
@given(height=st.integers(1, 40), width=st.integers(1, 40), scale=st.floats(1, 8))
def test_any_scale_gives_the_promised_size(pipeline, height, width, scale):
    result = answered(pipeline, enlarging(png(noise(height, width)), scale=scale))
    exact = Fraction(repr(scale))
    size = [max(1, math.floor(side * exact + Fraction(1, 2))) for side in (height, width)]
    assert list(pixels_of(result.content).shape[:2]) == size
    assert [result.height, result.width] == size


# 5. An accepted request gets exactly one answer, whatever dies on the way.


@settings(several, max_examples=40)
@given(seed=SEEDS)
def test_every_accepted_job_is_answered_once_under_faults(seed):
    chance = random.Random(seed)
    faults = [None, None, torch.OutOfMemoryError("injected"), RuntimeError("injected")]

    def fail_sometimes(_: Any) -> None:
        if fault := chance.choice(faults):
            raise fault

    runtime = FakeRuntime()
    runtime.before_answer = fail_sometimes
    engine = make_engine(runtime, max_batch=4)
    answered: list[int] = []
    lock = threading.Lock()
    futures = []
    for number in range(30):
        run = make_run(seconds=chance.choice([60, 60, 60, 0]))
        future = engine.compute(run, chance.choice("ab"), [window(number)] * chance.randint(1, 3))

        def count(_: Any, number: int = number) -> None:
            with lock:
                answered.append(number)

        future.add_done_callback(count)
        futures.append(future)
        if chance.random() < 0.2:
            run.cancelled.set()
    if chance.random() < 0.3:
        engine.stop(0.0)
    done, waiting = wait(futures, 10)
    assert not waiting
    assert all(isinstance(future.exception(), Problem | None) for future in done)
    assert sorted(answered) == list(range(30))
    engine.stop(5)


# 6. A cached answer is byte-identical to the computed one; the key covers all that it depends on.


def post(client: TestClient, image: bytes, mask: bytes, **parameters: str) -> Any:
    response = client.post("/inpaint", files={"image": image, "mask": mask}, data=parameters)
    assert response.status_code == 200, response.text
    return response


def test_a_cached_answer_is_the_computed_one_and_nothing_else_is(toys):
    image, mask = png(noise(40, 40)), png(square(40, 40))
    with TestClient(create_app(toys)) as client:
        computed, cached = post(client, image, mask), post(client, image, mask)
        assert (computed.headers["x-cache"], cached.headers["x-cache"]) == ("miss", "hit")
        assert cached.content == computed.content
        others = [
            post(client, png(noise(40, 40, seed=1)), mask),
            post(client, image, png(square(40, 40, at=(7, 7)))),
            post(client, image, mask, grow="1"),
            post(client, image, mask, feather="1"),
            post(client, image, mask, format="webp"),
            post(client, image, png(255 - square(40, 40)), mask_mode="black"),
        ]
        assert {answer.headers["x-cache"] for answer in others} == {"miss"}
        assert len({answer.headers["etag"] for answer in (computed, *others)}) == 1 + len(others)


def test_other_weights_are_another_answer(toys, tmp_path):
    (tmp_path / "manifest.toml").write_text(
        MANIFEST.replace('"toy-fill"\nlicence', '"toy-fill"\nsha256 = "1"\nlicence')
    )
    image, mask = png(noise(40, 40)), png(square(40, 40))
    tags = []
    for settings_ in (toys, toys.model_copy(update={"weights_dir": tmp_path})):
        with TestClient(create_app(settings_)) as client:
            tags.append(post(client, image, mask).headers["etag"])
    assert tags[0] != tags[1]


@pytest.fixture(scope="module")
def strict_pipeline(toys) -> Iterator[Pipeline]:
    """Takes results of up to 1000 pixels."""
    pipeline = Pipeline(toys.model_copy(update={"max_pixels": 1000}), Metrics())
    yield pipeline
    pipeline.close()


# 7. No input makes memory grow past what the settings allow.


@several
@given(sizes=st.lists(st.integers(1, 150), max_size=30), seed=SEEDS)
def test_decoded_pixels_never_exceed_the_budget_and_everyone_gets_a_turn(sizes, seed):
    chance = random.Random(seed)
    budget = Budget(100)
    open_, served = [], 0
    for size in sizes:
        open_.append(budget.reserve(size))
        while open_ and chance.random() < 0.4:
            reservation = open_.pop(chance.randrange(len(open_)))
            served += reservation.granted.done()
            reservation.release()
        assert sum(item.pixels for item in open_ if item.granted.done()) <= 100
    for reservation in open_:
        if reservation.granted.done():
            reservation.release()
    assert budget.reserve(1).pixels == 1


@several
@given(width=st.integers(17, 70_000), height=st.integers(17, 70_000))
def test_a_header_that_claims_too_much_is_refused_before_decoding(strict_pipeline, width, height):
    content = bytearray(png(noise(2, 2)))
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    content[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    with pytest.raises(Unprocessable):
        answered(strict_pipeline, enlarging(bytes(content), scale=2.0))


# 8. No pickle is loaded on the serving path: safetensors only.


class Explosive:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was loaded",)


def test_a_pickle_in_place_of_weights_is_never_opened(toys, tmp_path):
    import hashlib

    content = pickle.dumps({"conv.weight": Explosive()})
    (tmp_path / "evil.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    row = f'"toy-fill"\nfile = "evil.safetensors"\nsha256 = "{digest}"\nlicence'
    (tmp_path / "manifest.toml").write_text(MANIFEST.replace('"toy-fill"\nlicence', row))
    pipeline = Pipeline(toys.model_copy(update={"weights_dir": tmp_path}), Metrics())
    with pytest.raises(Unavailable):
        answered(pipeline, inpainting(png(noise(40, 40)), png(square(40, 40))))
    assert answered(pipeline, enlarging(png(noise(9, 9)), scale=2.0)).windows == 1
    pipeline.close()


def test_the_serving_path_calls_no_unpickler():
    paths = [*(ROOT / "service").rglob("*.py"), ROOT / "models/manifest.py", ROOT / "models/registry.py"]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "dill", "joblib", "shelve", "marshal"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("np", "load")}, path


# 9. Without Redis the service still serves: a lost cache costs speed, never an answer.


def test_without_redis_every_answer_is_still_there(toys):
    lost = toys.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    with TestClient(create_app(lost)) as client:
        answers = [post(client, png(noise(40, 40)), png(square(40, 40))) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert "hit" not in {answer.headers["x-cache"] for answer in answers}
