"""Whether anything grows under mixed traffic: memory, descriptors, threads, and what is left in Redis.

    python -m bench.soak [--minutes 20] [--clients 2] [--seed 0]

One process computes by itself; another has a worker compute, over Redis. Both get the same kinds of requests:
pictures of all formats and of new sizes, hits of the cache, jobs followed to their end, broken pictures, and
callers that leave. Ends with 1 and says why where something failed or grew.
"""

from __future__ import annotations

import argparse
import random
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import httpx
import numpy as np
from PIL import Image

from models.manifest import default_model
from service.work import TASKS
from tests.service.conftest import RedisServer, start_redis
from tests.service.fleet import left
from tests.service.hostile import FORMATS, corrupt
from tests.service.pictures import noise, png, saved
from tests.service.server import Server

WARM = 0.15  # share of the time after which nothing should grow any more
GROWTH = 150e6  # bytes that a process may have at the end beside what it had then
SLOPE = 1e6  # bytes a minute in the last third; told only of runs that are long enough to tell it
LONG = 10.0  # minutes
STRAY = 8  # descriptors and threads that may come and go
CACHE = 16_000_000  # bytes: so small that it is full before the first measurement


class Traffic:
    """One client, which sends what chance tells it to."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self._random = random.Random(seed)
        self._client = httpx.Client(base_url=url, timeout=600)
        self._kinds: dict[Callable[[], None], int] = {
            self.fill: 5,
            self.enlarge: 5,
            self.again: 3,
            self.job: 3,
            self.select: 1,
            self.broken: 2,
            self.leave: 1,
            self.look: 2,
        }

    def run(self, end: float) -> None:
        with self._client:
            while time.monotonic() < end:
                (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
                try:
                    kind()
                except Exception as error:
                    self.failures.append(f"{kind.__name__}: {type(error).__name__}: {error}")

    def fill(self) -> None:
        self._expect(200, self._post("/inpaint", self._filling(), feather=self._random.randrange(9)))

    def enlarge(self) -> None:
        scale = self._random.uniform(1, 3)
        wanted = self._random.choice(["png", "jpeg", "webp"])
        self._expect(200, self._post("/upscale", {"image": self._picture(320)}, scale=scale, format=wanted))

    def again(self) -> None:
        """One of a few requests that were answered before, mostly."""
        image = png(noise(64, 64, seed=self._random.randrange(5)))
        answer = self._expect(200, self._post("/upscale", {"image": image}, scale=1.5))
        known = {"If-None-Match": answer.headers["etag"]}
        asked = self._client.post("/upscale", params={"scale": 1.5}, files={"image": image}, headers=known)
        self._expect(304, asked)

    def job(self) -> None:
        place = self._expect(202, self._post("/jobs/inpaint", self._filling())).headers["location"]
        if self._random.random() < 0.8:
            with self._client.stream("GET", f"{place}/events") as events:
                states = [line for line in events.iter_lines() if line.startswith("event")]
            if states[-1:] != ["event: done"]:
                raise AssertionError(f"the job's last event was {states[-1:]}")
            self._expect(200, self._client.get(f"{place}/result"))
        self._expect(204, self._client.delete(place))

    def select(self) -> None:
        self._expect(200, self._post("/select", {"image": self._picture(200)}, inside="20,20"))

    def broken(self) -> None:
        self._expect(
            range(200, 500), self._post("/upscale", {"image": corrupt(self._random, self._picture(200))})
        )

    def leave(self) -> None:
        """In the middle of an upload, or without waiting for the answer."""
        whole = self._client.build_request("POST", "/inpaint", files=self._filling())
        content = whole.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in whole.headers.items())
        with socket.create_connection((whole.url.host, whole.url.port)) as connection:
            connection.sendall(f"POST /inpaint HTTP/1.1\r\n{head}\r\n".encode())
            connection.sendall(content[: self._random.randint(0, len(content))])

    def look(self) -> None:
        path = self._random.choice(
            ["/", "/models", "/metrics", "/readyz", "/openapi.json", "/jobs/none", "/x"]
        )
        self._expect({200, 404}, self._client.get(path))

    def _filling(self) -> dict[str, bytes]:
        pixels = self._pixels(512)
        height, width = pixels.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        side = self._random.randint(4, min(height, width) // 3)
        top, left = self._random.randrange(height - side), self._random.randrange(width - side)
        mask[top : top + side, left : left + side] = 255
        return {"image": self._saved(pixels), "mask": png(mask)}

    def _picture(self, most: int) -> bytes:
        return self._saved(self._pixels(most))

    def _pixels(self, most: int) -> np.ndarray:
        """Of sizes that have not been seen before, mostly, and more small ones than large ones."""
        height, width = (int(32 * (most / 32) ** self._random.random()) for _ in range(2))
        coarse = noise(8, 8, seed=self._random.randrange(2**32))
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)

    def _saved(self, pixels: np.ndarray) -> bytes:
        kind = self._random.choice([*FORMATS, "16 bits"])
        if kind == "16 bits":
            return png(pixels.astype(np.uint16) * 257)
        return saved(Image.fromarray(pixels), kind)

    def _post(self, path: str, files: Mapping[str, bytes], **parameters: object) -> httpx.Response:
        return self._client.post(path, params={k: str(v) for k, v in parameters.items()}, files=dict(files))

    def _expect(self, wanted: int | range | set[int], answer: httpx.Response) -> httpx.Response:
        self.answers[answer.status_code] += 1
        if answer.status_code not in ({wanted} if isinstance(wanted, int) else wanted):
            raise AssertionError(f"{answer.request.url}: {answer.status_code} {answer.text[:200]}")
        return answer


@dataclass(frozen=True)
class Sample:
    minutes: float
    memory: float  # bytes, of the process itself
    children: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int, minutes: float) -> Sample:
        place = Path(f"/proc/{pid}")
        return cls(
            minutes,
            resident(pid),
            sum(map(resident, children(pid))),
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
        )

    def __str__(self) -> str:
        return (
            f"{self.memory / 1e6:6.0f} MB + {self.children / 1e6:4.0f} in children, "
            f"{self.descriptors:3} descriptors, {self.threads:3} threads"
        )


def resident(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return 0.0
    return sum(1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def children(pid: int) -> Iterator[int]:
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == pid:
            yield int(place.parent.name)


@dataclass
class Report:
    samples: dict[str, list[Sample]]
    answers: Counter[int]
    failures: list[str]
    left: set[str]  # keys in Redis

    def findings(self) -> list[str]:
        """What is wrong."""
        found = [f"{len(self.failures)} requests failed, first {self.failures[0]}"] if self.failures else []
        found += [f"left in Redis: {', '.join(sorted(self.left)[:10])}"] if self.left else []
        for name, samples in self.samples.items():
            last = samples[-1]
            warm = next(sample for sample in samples if sample.minutes >= WARM * last.minutes)
            if last.memory - warm.memory > GROWTH:
                found.append(f"{name} grew by {(last.memory - warm.memory) / 1e6:.0f} MB")
            if last.minutes >= LONG and (slope := self.slope(name)) > SLOPE:
                found.append(f"{name} still grows by {slope / 1e6:.1f} MB a minute")
            for what in ("descriptors", "threads"):
                if getattr(last, what) > getattr(warm, what) + STRAY:
                    found.append(f"{name} keeps {what}: {getattr(warm, what)}, then {getattr(last, what)}")
        return found

    def slope(self, name: str) -> float:
        """Bytes a minute in the last third."""
        samples = self.samples[name]
        late = [sample for sample in samples if sample.minutes >= samples[-1].minutes * 2 / 3]
        minutes, memory = [sample.minutes for sample in late], [sample.memory for sample in late]
        return statistics.linear_regression(minutes, memory).slope if len(late) > 1 else 0.0


class Member(Protocol):
    """A process that is watched."""

    url: str

    @property
    def process(self) -> Any: ...


@contextmanager
def processes() -> Iterator[tuple[dict[str, Member], RedisServer]]:
    """One that computes by itself, and an API process with its worker; with the models that ship."""
    folder = tempfile.mkdtemp()
    server = start_redis(Path(folder))
    # Waiting is no failure here: the machine may be a slow one.
    given = {"cache_bytes": str(CACHE), "max_wait": "600", "timeout": "600", "log_level": "error"}
    models = ",".join(sorted({default_model(task, "cpu") for task in TASKS}))
    members: dict[str, Server] = {}
    try:
        members["single"] = Server(**given)
        members["worker"] = Server("worker", "--models", models, redis_url=server.url, **given)
        members["api"] = Server(dispatch="redis", redis_url=server.url, **given)
        yield dict(members), server
    finally:
        for member in members.values():
            member.kill()
        server.process.kill()
        server.process.wait()
        shutil.rmtree(folder)


def soak(
    members: Mapping[str, Member],
    server: RedisServer,
    minutes: float,
    clients: int = 1,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Report:
    """So many clients to each of the members `single` and `api`."""
    urls = [members[name].url for name in ("single", "api")] * clients
    crowd = [Traffic(url, seed + number) for number, url in enumerate(urls)]
    end = time.monotonic() + 60 * minutes
    threads = [threading.Thread(target=client.run, args=(end,)) for client in crowd]
    for thread in threads:
        thread.start()
    samples = watch(members, minutes, tell)
    for thread in threads:
        thread.join()
    settled(server)
    for name, member in members.items():
        samples[name].append(Sample.of(member.process.pid, minutes))
    answers: Counter[int] = sum((client.answers for client in crowd), Counter())
    return Report(
        samples, answers, [failure for client in crowd for failure in client.failures], left(server)
    )


def watch(
    members: Mapping[str, Member], minutes: float, tell: Callable[[str], None]
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in members}
    started = time.monotonic()
    while (past := (time.monotonic() - started) / 60) < minutes:
        for name, member in members.items():
            samples[name].append(Sample.of(member.process.pid, past))
            tell(f"{past:5.1f} min  {name:7} {samples[name][-1]}")
        time.sleep(60 * min(0.5, minutes / 20))
    return samples


def settled(server: RedisServer, seconds: float = 10) -> None:
    """What the last answers leave is deleted right after them; whoever left is noticed within seconds."""
    end = time.monotonic() + seconds
    while left(server) and time.monotonic() < end:
        time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=2, help="of each of the two ways")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with processes() as (members, server):
        report = soak(members, server, options.minutes, options.clients, options.seed)
    print(f"answers: {dict(sorted(report.answers.items()))}")
    for name in report.samples:
        print(f"{name}: {report.slope(name) / 1e6:+.2f} MB a minute in the last third")
    for finding in (findings := report.findings()):
        print(f"FAILED: {finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
