"""What clients of other projects speak: their own libraries where they have one, their requests where not."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.service.server import Server
from tests.service.test_serve import photo, pixels_of, png, square_hole

IMAGE, HOLE = photo(40, 50), square_hole(40, 50, 12)
# As OpenAI's clients mark holes: what is transparent.
MASK = png(np.concatenate([IMAGE, 255 - HOLE[..., None]], 2))


@pytest.fixture
def server(page_server: Server) -> Server:
    return page_server


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def edit(client: openai.OpenAI, **more: Any) -> openai.types.ImagesResponse:
    return client.images.edit(image=("a.png", png(IMAGE)), prompt="a cat", model="patchmatch", **more)


def test_openais_client_edits(client):
    answer = edit(client, mask=("m.png", MASK))
    pixels = pixels_of(base64.b64decode(answer.data[0].b64_json))
    assert np.array_equal(pixels[HOLE == 0], IMAGE[HOLE == 0])
    assert not np.array_equal(pixels, IMAGE)
    assert answer.size == "50x40"


def test_openais_client_edits_what_is_transparent_in_a_list_of_one_picture(client):
    answer = client.images.with_raw_response.edit(image=[("a.png", MASK)], prompt="a cat", user="me")
    assert answer.headers["x-ignored"] == "prompt, user"
    pixels = pixels_of(base64.b64decode(answer.parse().data[0].b64_json))
    assert (pixels[..., 3] == 255).all()


def test_openais_client_chooses_size_format_and_an_address(client):
    mask = ("m.png", MASK)
    answer = edit(client, mask=mask, size="75x60", output_format="webp", response_format="url")
    # A proxy on this machine is believed: whoever spoke TLS to it is to go on so.
    secure = edit(client, mask=mask, response_format="url", extra_headers={"X-Forwarded-Proto": "https"})
    assert secure.data[0].url.startswith("https://127.0.0.1:")
    picture = httpx.get(answer.data[0].url)
    assert picture.headers["content-type"] == "image/webp"
    assert pixels_of(picture.content).shape == (60, 75, 3)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"n": 2}, "n: Input should be '1'"),
        ({"size": "60x60"}, "other proportions"),
        ({"size": "25x20"}, "The factor would be 0.5"),
        ({"quality": "high"}, "quality: There is no such parameter"),
        ({"output_format": "gif"}, "format: Input should be"),
        ({"model": "gpt-image-1"}, "There is no model 'gpt-image-1'"),
        ({"mask": ("m.png", png(IMAGE))}, "nothing in the mask is transparent"),
    ],
)
def test_openais_client_is_told_what_cannot_be_done(client, more, sentence):
    given = {"image": ("a.png", MASK), "prompt": "", **more}
    with pytest.raises(openai.APIStatusError) as raised:
        client.images.edit(**given)
    assert sentence in raised.value.body["message"]


def test_openais_client_lists_models_and_cannot_draw(client):
    names = [model.id for model in client.models.list()]
    assert "patchmatch" in names
    assert client.models.retrieve("patchmatch").owned_by == "retouch"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("meta-sr-small")
    with pytest.raises(openai.InternalServerError) as raised:
        client.images.generate(prompt="a cat")
    assert "draws from words" in raised.value.body["message"]


def in_base64(pixels: np.ndarray) -> str:
    return base64.b64encode(png(pixels)).decode()


# What IOPaint's page sends with each picture, and a model without diffusion makes nothing of.
SETTINGS = {
    "ldm_steps": 30,
    "zits_wireframe": True,
    "hd_strategy": "Crop",
    "prompt": "",
    "negative_prompt": "out of frame",
    "use_croper": False,
    "use_extender": False,
    "sd_steps": 50,
    "sd_seed": -1,
    "paint_by_example_example_image": None,
    "enable_controlnet": False,
    "enable_brushnet": False,
}


def test_iopaints_page_finds_what_it_needs(server):
    here = f"{server.url}/api/v1"
    config = httpx.get(f"{here}/server-config").json()
    assert config["modelInfos"] == [httpx.get(f"{here}/model").json()]
    assert config["disableModelSwitch"]
    assert [plugin["name"] for plugin in config["plugins"]] == ["RealESRGAN"]


def test_iopaints_page_fills_and_enlarges(server):
    here = f"{server.url}/api/v1"
    answer = httpx.post(
        f"{here}/inpaint",
        json=SETTINGS | {"image": f"data:image/png;base64,{in_base64(IMAGE)}", "mask": in_base64(HOLE)},
        timeout=60,
    )
    pixels = pixels_of(answer.content)
    assert np.array_equal(pixels[HOLE == 0], IMAGE[HOLE == 0])
    assert not np.array_equal(pixels, IMAGE)
    assert {"sd_seed", "hd_strategy"} <= set(answer.headers["x-ignored"].split(", "))
    for scale in ({"upscale": 2}, {"scale": 2.0}, {}):
        sent = {"name": "RealESRGAN", "image": in_base64(IMAGE), "clicks": []} | scale
        answer = httpx.post(f"{here}/run_plugin_gen_image", json=sent, timeout=60)
        assert pixels_of(answer.content).shape == (80, 100, 3)


@pytest.mark.parametrize(
    ("path", "more", "sentence"),
    [
        ("inpaint", {"prompt": "a cat"}, "no model here reads text"),
        ("inpaint", {"use_extender": True}, "POST /inpaint extends"),
        ("inpaint", {"mask": "%"}, "the file in base64"),
        ("run_plugin_gen_image", {"name": "GFPGAN"}, "There is one plugin here"),
        ("run_plugin_gen_mask", {}, "There is no 'run_plugin_gen_mask' here"),
        ("model", {"name": "lama"}, "There is no 'model' here"),
    ],
)
def test_iopaints_page_is_told_what_cannot_be_done(server, path, more, sentence):
    sent = {"image": in_base64(IMAGE), "mask": in_base64(HOLE)} | more
    answer = httpx.post(f"{server.url}/api/v1/{path}", json=sent)
    assert answer.is_error
    assert sentence in answer.json()["errors"]


def test_the_open_inference_protocols_probes(server):
    def get(path: str) -> httpx.Response:
        return httpx.get(f"{server.url}/v2{path}")

    assert get("").json()["name"] == "retouch"
    assert get("/health/live").json() == {"live": True}
    assert get("/health/ready").json() == {"ready": True}
    assert get("/models/patchmatch/ready").json() == {"name": "patchmatch", "ready": True}
    described = get("/models/patchmatch").json()
    assert [tensor["name"] for tensor in described["inputs"]] == ["image", "mask", "sketch"]
    assert get("/models/nothing/ready").status_code == 404
    assert "GET /models" in get("/models/nothing").json()["error"]
    answer = httpx.post(f"{server.url}/v2/models/patchmatch/infer", json={})
    assert answer.status_code == 501
    assert "POST /inpaint" in answer.json()["error"]


def test_timings_are_told_by_model_and_task(server):
    sent = {"image": in_base64(IMAGE), "mask": in_base64(HOLE), "model": "patchmatch", "grow": 2}
    assert httpx.post(f"{server.url}/inpaint", json=sent, timeout=60).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    for stage in ("decode", "queue", "compute", "encode"):
        assert f'retouch_{stage}_seconds_count{{model="patchmatch",task="inpaint"}}' in text


def test_pictures_in_json(server):
    sent = {"image": in_base64(IMAGE), "mask": in_base64(HOLE), "model": "patchmatch", "grow": 1}
    answer = httpx.post(f"{server.url}/inpaint", json=sent, timeout=60)
    body = answer.json()
    pixels = pixels_of(base64.b64decode(body.pop("image")))
    assert np.array_equal(pixels[HOLE == 0][:10], IMAGE[HOLE == 0][:10])
    assert body | {"hole": 0, "windows": 0} == {
        "media_type": "image/png",
        "model": "patchmatch",
        "width": 50,
        "height": 40,
        "hole": 0,
        "windows": 0,
    }
    picture = httpx.post(f"{server.url}/inpaint", json=sent, headers={"Accept": "image/webp"}, timeout=60)
    assert picture.headers["content-type"] == "image/webp"
    job = httpx.post(f"{server.url}/jobs/upscale", json={"image": in_base64(IMAGE), "width": 75})
    assert job.status_code == 202
