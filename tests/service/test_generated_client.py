"""What an ordinary generator makes of the description fills and enlarges, against a real server."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from service.work import MEDIA_TYPES
from tests.service.server import Server
from tests.service.test_serve import photo, pixels_of, png, square_hole

# Pictures are bytes to a client.
CONFIG = {
    "post_hooks": [],
    "content_type_overrides": dict.fromkeys(MEDIA_TYPES.values(), "application/octet-stream"),
}
Find = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def generated(page_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Find]:
    """Modules of the client, by name."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    generator = Path(sys.executable).with_name("openapi-python-client")
    command = [
        generator,
        "generate",
        "--url",
        f"{page_server.url}/openapi.json",
        "--config",
        folder / "config.json",
    ]
    command += ["--meta", "none", "--output-path", folder / "retouch_client", "--fail-on-warning"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"retouch_client.{name}")
    sys.path.remove(str(folder))


@pytest.fixture
def client(page_server, generated):
    with generated("client").Client(base_url=page_server.url, timeout=60) as client:
        yield client


@pytest.fixture
def file(generated):
    File = generated("types").File
    return lambda pixels: File(io.BytesIO(png(pixels)), "a.png", "image/png")


def test_it_fills(client, generated, file):
    image, mask = photo(40, 50), square_hole(40, 50, 12)
    body = generated("models").InpaintFilesBody(image=file(image), mask=file(mask))
    response = generated("api.pictures.inpaint").sync_detailed(client=client, body=body)
    assert response.status_code == 200, response.content
    answer = pixels_of(response.parsed.payload.read())
    assert np.array_equal(answer[mask == 0], image[mask == 0])
    assert "x-model" in response.headers


def test_it_enlarges_and_is_told_what_is_wrong(client, generated, file):
    upscale, models = generated("api.pictures.upscale").sync, generated("models")
    answer = upscale(client=client, body=models.UpscaleFilesBody(image=file(photo(20, 30)), scale=1.5))
    assert pixels_of(answer.payload.read()).shape == (30, 45, 3)
    problem = upscale(client=client, body=models.UpscaleFilesBody(image=file(photo(20, 30))))
    assert isinstance(problem, models.Problem)
    assert problem.status == 422
    assert "Give either scale" in problem.detail


def test_it_makes_a_job_and_fetches_its_answer(client, generated, file):
    jobs, models = (lambda name: generated(f"api.jobs.{name}").sync), generated("models")
    body = models.UpscaleJobFilesBody(image=file(photo(20, 30)), width=45)
    job = jobs("upscale_job")(client=client, body=body)
    give_up = time.monotonic() + 60
    while job.state not in (models.JobState.DONE, models.JobState.FAILED) and time.monotonic() < give_up:
        job = jobs("status")(job.id, client=client)
    assert job.state == models.JobState.DONE
    assert job.links.result.endswith("/result")
    assert pixels_of(jobs("result")(job.id, client=client).payload.read()).shape == (30, 45, 3)
    assert generated("api.jobs.delete").sync_detailed(job.id, client=client).status_code == 204
    assert isinstance(jobs("status")(job.id, client=client), models.Problem)


def test_it_lists_the_models(client, generated):
    listed = generated("api.models.models").sync(client=client).models
    assert {model.task for model in listed if model.default} == {"inpaint", "upscale"}
