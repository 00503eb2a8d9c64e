"""What workers add: pictures a second through the whole service with 1, 2 and 4 of them, and the latency that
the way over Redis adds to an answer computed in the same process. The network sleeps as long as a GPU would
compute, so that the figures are about the distribution and not about this machine's cores. Where others
compute too, `chrt --rr 1` before it shows latencies without waiting for them.

    python bench/scaleout.py [--seconds 10] [--nap 0.2] [--workers 1 2 4] [--rounds 200]
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# This file's own folder comes first otherwise, and in it `service` is another file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import httpx
import numpy as np
import torch
from torch import Tensor

from models import registry
from models.network import Network, SizeRule
from service.cli import main as retouch

SIDE = 512
SPAN = 10  # requests in a span that is as quiet as the machine is
MODEL = "sleeper"
MANIFEST = f"""
[[model]]
name = "{MODEL}"
architecture = "{MODEL}"
licence = "none"
default_on = ["cpu", "cuda"]
"""
START = 120.0  # seconds that a process may take to be ready


class Sleeper(Network):
    """Busy with a batch for a fixed time, whatever is in it, and in nobody's way meanwhile: a GPU."""

    sides, window = SizeRule(32, 8), 256

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        time.sleep(float(os.environ["BENCH_NAP"]))
        return image


def run(command: list[str], variables: dict[str, str]) -> None:
    """In the new process: `retouch`, with the sleeping network known to it."""
    os.environ.update(variables)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    torch.set_num_threads(1)
    registry.architecture(MODEL, task="inpaint", paper="none")(Sleeper)
    sys.exit(retouch(command))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    def __init__(self, command: list[str], **settings: Any) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        variables = {f"RETOUCH_{name.upper()}": str(value) for name, value in settings.items()}
        variables["BENCH_NAP"] = variables.pop("RETOUCH_NAP")
        context = multiprocessing.get_context("forkserver")
        self.process = context.Process(target=run, args=([*command, "--port", str(port)], variables))
        self.process.start()
        end = time.monotonic() + START
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + "/readyz").is_success:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{command[0]} did not become ready")

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(30)
        self.process.kill()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    options = ["--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1"]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0", server.pid
    finally:
        server.kill()
        server.wait()


def photograph(seed: int, side: int) -> tuple[bytes, bytes]:
    """A picture that compresses as a photograph does, and a mask with one window's hole."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    noisy = (smooth + random.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 3 : side // 2, side // 3 : side // 2] = 255
    return cv2.imencode(".png", noisy)[1].tobytes(), cv2.imencode(".png", mask)[1].tobytes()


async def throughput(url: str, clients: int, seconds: float, side: int) -> float:
    """Answers a second, with so many clients that each sends the next picture when it has the last one."""
    # One each: equal requests in flight would be computed once.
    pictures = [photograph(seed, side) for seed in range(clients)]
    answered = 0
    # The start, when the first pictures are all under way and none is back, belongs to no rate.
    begin = time.monotonic() + 2.0
    end = begin + seconds

    async def one(picture: tuple[bytes, bytes], client: httpx.AsyncClient) -> None:
        nonlocal answered
        files = dict(zip(("image", "mask"), picture, strict=True))
        while time.monotonic() < end:
            response = await client.post(f"{url}/inpaint", files=files, timeout=60)
            response.raise_for_status()
            answered += begin <= time.monotonic() < end

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(limits=limits) as client:
        await asyncio.gather(*(one(picture, client) for picture in pictures))
    return answered / seconds


def latencies(urls: list[str], rounds: int) -> list[list[float]]:
    """Milliseconds of single requests, in turns, so that whatever slows the machine slows all alike."""
    image, mask = photograph(0, SIDE)
    times: list[list[float]] = [[] for _ in urls]
    with httpx.Client() as client:
        for number in range(rounds + 5):
            for url, several in zip(urls, times, strict=True):
                started = time.perf_counter()
                response = client.post(f"{url}/inpaint", files={"image": image, "mask": mask}, timeout=60)
                response.raise_for_status()
                if number >= 5:
                    several.append(1000 * (time.perf_counter() - started))
    return times


def quietest(here: list[float], there: list[float]) -> tuple[float, float]:
    """Medians of the short spans in which answers here came fastest: others had the machine in the rest.

    Chosen by what is not under test, so that the choice favours nothing.
    """
    spans = [(here[at : at + SPAN], there[at : at + SPAN]) for at in range(0, len(here), SPAN)]
    spans.sort(key=lambda span: statistics.median(span[0]))
    best = spans[: max(1, len(spans) // 4)]
    return (
        statistics.median(time for span, _ in best for time in span),
        statistics.median(time for _, span in best for time in span),
    )


def processor_seconds(processes: list[int]) -> float:
    """What these have computed so far, by the scheduler's count; Linux alone tells."""
    spent = 0
    for process in processes:
        for task in Path(f"/proc/{process}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--nap", type=float, default=0.2, help="seconds that the network takes for a batch")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--side", type=int, default=128, help="of the pictures in the throughput part")
    options = parser.parse_args()
    if not shutil.which("redis-server"):
        sys.exit("MISSING: redis-server")
    folder = Path(tempfile.mkdtemp())
    (folder / "manifest.toml").write_text(MANIFEST)
    # One picture a batch and three in a worker's hands, so that a worker's limit is its nap and nothing else.
    common = {"weights_dir": folder, "device": "cpu", "log_level": "error", "cache_bytes": 0}
    common |= {"cache_entry_bytes": 1, "max_batch": 1, "max_wait": 1000}
    with redis_server(folder) as (url, server), contextlib.ExitStack() as stack:

        def started(*command: str, nap: float, **settings: Any) -> Process:
            process = Process(list(command), nap=nap, **common, **settings)
            stack.callback(process.stop)
            return process

        def worker(nap: float) -> Process:
            return started("worker", "--models", MODEL, nap=nap, redis_url=url, worker_places=3)

        quick = worker(0.01)
        # With the same cache, so that the difference is the dispatcher's.
        local = started("serve", nap=0.01, redis_url=url)
        distributed = started("serve", nap=0.01, dispatch="redis", redis_url=url)
        over_redis = [server, *(process.pid for process in (distributed, quick))]
        spent = [processor_seconds(over_redis), processor_seconds([local.pid])]
        here, there = latencies([local.url, distributed.url], options.rounds)
        spent = [processor_seconds(over_redis) - spent[0], processor_seconds([local.pid]) - spent[1]]
        for kind, (one, other) in {
            "latency p50": (statistics.median(here), statistics.median(there)),
            "latency p50 in the quietest quarter": quietest(here, there),
            "processor time": (1000 * spent[1] / len(here), 1000 * spent[0] / len(there)),
        }.items():
            bound = " (at most 6)" if "latency" in kind else ""
            print(f"{kind}, {SIDE}x{SIDE} PNG: {one:.1f} ms here, {other:.1f} ms over Redis: ", end="")
            print(f"{other - one:+.2f} ms{bound}", flush=True)
        for process in (quick, local):
            process.stop()

        single, running = 0.0, 0
        for count in options.workers:
            for _ in range(count - running):
                worker(options.nap)
            running = count
            time.sleep(3.0)  # until the API process has seen them
            rate = asyncio.run(throughput(distributed.url, 5 * count, options.seconds, options.side))
            single = single or rate / count
            share = rate / (single * count)
            print(f"{count} workers: {rate:.1f}/s, {share:.2f} of linear (at least 0.85)", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
