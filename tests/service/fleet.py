"""Processes of a fleet: `retouch serve | worker`, with toy networks that fill at once, sleep or kill.

They are forked from a process that has imported everything already: a fleet is up in a second or two.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import redis
import torch
from torch import Tensor

from models import registry
from models.registry import Architecture
from service.cache.store import RedisCache
from tests.service.conftest import RedisServer, free_port
from tests.service.toys import ToyEnlarge, ToyFill

MANIFEST = """
[[model]]
name = "toy-fill"
architecture = "toy-fill"
licence = "none"
default_on = ["cpu", "cuda"]

[[model]]
name = "toy-enlarge"
architecture = "toy-enlarge"
licence = "none"
default_on = ["cpu", "cuda"]

[[model]]
name = "toy-killer"
architecture = "toy-killer"
licence = "none"

[[model]]
name = "toy-sleeper"
architecture = "toy-sleeper"
licence = "none"
"""

NO_VARIABLES: Mapping[str, str] = {}
DEADLY = 251  # a picture whose first pixel has this red value kills whoever computes it
NAP = 0.05  # seconds a picture


class ToyKiller(ToyFill):
    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        if (image[:, 0, 0, 0] * 255).round().eq(DEADLY).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image, mask, sketch)


class ToySleeper(ToyFill):
    """Takes as long as a device would, and leaves the processor to others meanwhile."""

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        time.sleep(NAP * len(image))
        return super().forward(image, mask, sketch)


def run(command: Sequence[str], settings: dict[str, str]) -> None:
    """In the new process."""
    from service.cli import main

    os.environ.update(settings)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    for kind, name in ((ToyFill, "toy-fill"), (ToyKiller, "toy-killer"), (ToySleeper, "toy-sleeper")):
        registry._ARCHITECTURES[name] = Architecture(name, "inpaint", "none", kind, sketch=True)
    registry._ARCHITECTURES["toy-enlarge"] = Architecture("toy-enlarge", "upscale", "none", ToyEnlarge)
    sys.exit(main(list(command)))


FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["service.cli", "service.app", "service.worker", "service.redis.dispatcher", "uvicorn", __name__]
)


class Process:
    """A member of the fleet; ready when `until_ready` returns."""

    def __init__(self, *command: str, variables: Mapping[str, str], **settings: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        variables = {
            **variables,
            **{f"RETOUCH_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.process = FORK.Process(target=run, args=([*command, "--port", str(self.port)], variables))
        self.process.start()

    def until_ready(self, seconds: float = 90) -> None:
        pause, end = 0.05, time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.alive, "the process ended before it was ready"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + "/readyz").status_code == 200:
                    return
            time.sleep(pause)
        raise AssertionError("the process did not become ready")

    def metric(self, name: str) -> float:
        found = re.findall(rf"^{re.escape(name)} (\S+)$", httpx.get(self.url + "/metrics").text, re.MULTILINE)
        return sum(map(float, found))

    @property
    def alive(self) -> bool:
        return self.process.exitcode is None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def terminate(self, seconds: float = 30) -> int | None:
        """The exit code; None if it did not end in time."""
        self.process.terminate()
        self.process.join(seconds)
        return self.process.exitcode


class FleetOfProcesses:
    def __init__(
        self, server: RedisServer, folder: Path, variables: Mapping[str, str], **settings: Any
    ) -> None:
        self.variables = variables
        weights = folder / "weights"
        weights.mkdir(exist_ok=True)
        (weights / "manifest.toml").write_text(MANIFEST)
        self.server = server
        self.settings = {
            "weights_dir": weights,
            "redis_url": server.url,
            "device": "cpu",
            "lease": 1,
            "cache_entry_bytes": 1,  # every request is to be computed
            "log_level": "error",
            **settings,
        }
        self.members: list[Process] = []

    def api(self, **settings: Any) -> Process:
        return self._add(
            Process("serve", variables=self.variables, dispatch="redis", **self.settings | settings)
        )

    def single(self, **settings: Any) -> Process:
        """One that computes by itself and knows no Redis."""
        return self._add(
            Process("serve", variables=self.variables, **self.settings | {"redis_url": ""} | settings)
        )

    def worker(self, *models: str, **settings: Any) -> Process:
        return self._add(
            Process(
                "worker", "--models", ",".join(models), variables=self.variables, **self.settings | settings
            )
        )

    def _add(self, member: Process) -> Process:
        self.members.append(member)
        return member

    def keys(self) -> set[str]:
        return left(self.server)

    def kill(self) -> None:
        for member in self.members:
            member.kill()


def left(server: RedisServer) -> set[str]:
    """What is in Redis beside the fleet's own list, what was cached and streams without entries."""
    with redis.Redis(port=server.port, decode_responses=True) as client:
        found = set()
        for key in client.scan_iter(count=1000):
            streams = key.startswith("retouch:jobs:") and client.xlen(key) == 0
            cached = key.startswith(RedisCache.PREFIX)
            if not streams and not cached and key not in ("retouch:fleet", "retouch:weights"):
                found.add(key)
        return found


@contextlib.contextmanager
def fleet_of(
    server: RedisServer, folder: Path, variables: Mapping[str, str] = NO_VARIABLES, **settings: Any
) -> Iterator[FleetOfProcesses]:
    """`variables` are those of the environment that are no settings of ours."""
    fleet = FleetOfProcesses(server, folder, variables, **settings)
    try:
        yield fleet
    finally:
        fleet.kill()
