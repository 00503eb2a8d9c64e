"""What the service costs over its network: pictures a second through HTTP against the bare network, and the
latency of a cache hit against a route that returns the same bytes. Bounded in time, on the loopback.

    python bench/service.py [--seconds 10] [--rounds 3] [--concurrency 16] [--model NAME]
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import io
import itertools
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# This file's own folder comes first otherwise, and in it `service` is this file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

import models
from models.network import Network
from service.app import create_app
from service.engine.cores import usable_cores
from service.engine.runtimes.torch_runtime import devices
from service.imaging.windows import cut, plan_holes

SIDE = 512


def photograph(seed: int) -> tuple[bytes, bytes]:
    """A picture that compresses as a photograph does, and a mask with a hole somewhere."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
    noisy = (smooth + random.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(100, 300, 2)
    mask[top : top + 90, left : left + 110] = 255
    return png(noisy), png(mask)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


class Server:
    """The application in a process of its own, with one more route: the body read, fixed bytes returned."""

    def __init__(self, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        variables = {f"RETOUCH_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(port)], env=os.environ | variables
        )
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(self.url + "/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.stop()
        raise SystemExit("the server did not become ready")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def metric(self, name: str) -> float:
        text = httpx.get(self.url + "/metrics").text
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


def serve(port: int) -> None:
    app = create_app()
    kept: dict[str, bytes] = {}

    @app.post("/same")
    async def same(request: Request) -> Response:
        await request.body()
        return Response(kept["bytes"], media_type="image/png")

    @app.put("/same")
    async def keep(request: Request) -> None:
        kept["bytes"] = await request.body()

    uvicorn.run(app, port=port, log_level="error", access_log=False, http="httptools")


def through_http(server: Server, arguments: argparse.Namespace, seeds: itertools.count[int]) -> float:
    """Pictures a second at the given concurrency; every picture is new, and made before the clock starts."""
    pictures = [photograph(next(seeds)) for _ in range(arguments.pictures)]
    lock = threading.Lock()
    endless = itertools.cycle(pictures)
    end = time.monotonic() + arguments.seconds

    def client(_: int) -> int:
        done = 0
        with httpx.Client(timeout=300) as http:
            while time.monotonic() < end:
                with lock:
                    image, mask = next(endless)
                parameters = {"model": arguments.model} if arguments.model else {}
                answer = http.post(
                    server.url + "/inpaint", files={"image": image, "mask": mask}, params=parameters
                )
                answer.raise_for_status()
                done += 1
        return done

    started = time.monotonic()
    with ThreadPoolExecutor(arguments.concurrency) as clients:
        total = sum(clients.map(client, range(arguments.concurrency)))
    return total / (time.monotonic() - started)


def windows(net: Network, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The very windows that the service cuts from its pictures, as the network takes them."""
    images, holes = [], []
    for seed in range(count):
        image, mask = (np.asarray(Image.open(io.BytesIO(content))) for content in photograph(seed))
        (plan,) = plan_holes(mask > 0, net.window)
        pixels, hole = cut(image, mask > 0, plan, net.multiple, net.minimum)
        images.append(torch.tensor(pixels).permute(2, 0, 1).float() / 255)
        holes.append(torch.from_numpy(hole).float()[None])
    return torch.stack(images).to(device), torch.stack(holes).to(device)


def bare(net: torch.nn.Module, batch: int, device: torch.device, seconds: float) -> float:
    image, hole = windows(net, batch, device)
    done = 0
    with torch.inference_mode():
        net(image, hole)
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            net(image, hole)
            if device.type == "cuda":
                torch.cuda.synchronize()
            done += batch
    return done / (time.monotonic() - started)


def throughput(arguments: argparse.Namespace) -> None:
    device = devices("auto")[0]
    torch.set_num_threads(usable_cores())
    torch.backends.cudnn.allow_tf32 = False
    name = arguments.model or models.default_model("inpaint", device.type)
    net = models.load(name).to(device)
    server = Server(cache_bytes="0", max_wait="600", timeout="600")
    seeds = itertools.count()
    try:
        through_http(server, argparse.Namespace(**{**vars(arguments), "seconds": 2}), seeds)
        shares = []
        for _ in range(arguments.rounds):
            before = [server.metric(f"retouch_batch_size_{part}") for part in ("sum", "count")]
            served = through_http(server, arguments, seeds)
            after = [server.metric(f"retouch_batch_size_{part}") for part in ("sum", "count")]
            mean = (after[0] - before[0]) / max(1, after[1] - before[1])
            alone = bare(net, max(1, round(mean)), device, arguments.seconds)
            shares.append(served / alone)
            print(
                f"{name} on {device}: HTTP {served:.2f} pictures/s in batches of {mean:.1f}, "
                f"bare network {alone:.2f} pictures/s, share {served / alone:.2f}",
                flush=True,
            )
        print(f"share of the bare network, median: {statistics.median(shares):.2f} (to reach: 0.90)")
    finally:
        server.stop()


def cache_hit(arguments: argparse.Namespace) -> None:
    server = Server()
    try:
        image, mask = photograph(0)
        files = {"image": image, "mask": mask}
        parameters = {"model": arguments.model} if arguments.model else {}
        with httpx.Client(timeout=300) as http:
            first = http.post(server.url + "/inpaint", files=files, params=parameters).raise_for_status()
            http.put(server.url + "/same", content=first.content).raise_for_status()
            seconds: dict[str, list[float]] = {"/inpaint": [], "/same": []}
            for _ in range(arguments.hits):
                for route, times in seconds.items():  # taking turns, so that both see the same machine
                    started = time.perf_counter()
                    answer = http.post(server.url + route, files=files, params=parameters)
                    times.append(time.perf_counter() - started)
                    if answer.content != first.content:
                        raise SystemExit(f"{route} answered other bytes")
            if answer.headers.get("x-cache", "hit") != "hit":
                raise SystemExit("the cache did not answer")
        hit, same = (statistics.median(times) * 1000 for times in seconds.values())
        print(f"cache hit {hit:.2f} ms, same bytes {same:.2f} ms, ratio {hit / same:.2f} (at most: 1.5)")
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--hits", type=int, default=200)
    parser.add_argument("--model")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    cache_hit(arguments)
    throughput(arguments)


if __name__ == "__main__":
    main()
