"""Whether every request is answered, once and rightly, while processes are killed, frozen and replaced.

    python -m bench.chaos [--minutes 5] [--seed 0]

Three workers and two API processes over a Redis that keeps what it accepted. Every few seconds one of them,
or Redis, is killed, frozen for some seconds, or told to end, and is there again afterwards. Ends with 1 and
says why where an answer was wrong or missing, or something was left in Redis.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.service.clients import Clients, settle
from tests.service.conftest import PERSISTENT, start_redis
from tests.service.fleet import FleetOfProcesses, Process, fleet_of

MODEL = "toy-sleeper"  # busy for as long as a device would be, so that what dies has work in its hands
WORKERS = 3
PAUSE = 2.0, 5.0  # seconds between two events
FROZEN = 0.5, 4.0  # seconds; a lease is one
WAVE = 500  # requests that are sent, and have to be answered, before the next are


class Chaos:
    def __init__(self, fleet: FleetOfProcesses, folder: Path, seed: int) -> None:
        self._fleet, self._folder = fleet, folder
        self._random = random.Random(seed)
        self._workers = [self._worker() for _ in range(WORKERS)]
        self.apis = [fleet.api(), fleet.api()]
        for member in (*self._workers, *self.apis):
            member.until_ready()

    def _worker(self) -> Process:
        return self._fleet.worker(MODEL, worker_places=4)

    def pause(self) -> float:
        return self._random.uniform(*PAUSE)

    def one(self) -> str:
        """Something happens, and what was lost is replaced; says what."""
        events = [self.kill_worker, self.end_worker, self.freeze_worker, self.kill_redis, self.freeze_redis]
        event = self._random.choice([*events, self.freeze_api])
        event()
        return event.__name__

    def kill_worker(self) -> None:
        self._replaced().kill()

    def end_worker(self) -> None:
        if (code := self._replaced().terminate()) != 0:
            raise AssertionError(f"a worker that was told to end did so with {code}")

    def freeze_worker(self) -> None:
        self._freeze(self._random.choice(self._workers).process.pid)

    def freeze_api(self) -> None:
        self._freeze(self._random.choice(self.apis).process.pid)

    def freeze_redis(self) -> None:
        self._freeze(self._fleet.server.process.pid)

    def kill_redis(self) -> None:
        server = self._fleet.server
        server.process.kill()
        server.process.wait()
        time.sleep(self._random.uniform(*FROZEN))
        server.process = start_redis(self._folder, server.port, PERSISTENT).process

    def _replaced(self) -> Process:
        at = self._random.randrange(WORKERS)
        old, self._workers[at] = self._workers[at], self._worker()
        return old

    def _freeze(self, pid: int | None) -> None:
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(self._random.uniform(*FROZEN))
        finally:
            os.kill(pid, signal.SIGCONT)


def run(minutes: float, seed: int) -> list[str]:
    """What went wrong."""
    failures: list[str] = []
    happened: Counter[str] = Counter()
    answered = refused = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        server = start_redis(folder / "redis", options=PERSISTENT)
        try:
            with fleet_of(server, folder) as fleet:
                chaos = Chaos(fleet, folder / "redis", seed)
                end = time.monotonic() + 60 * minutes
                for first in itertools.count(0, WAVE):
                    if failures or time.monotonic() >= end:
                        break
                    clients = Clients(chaos.apis, range(first, first + WAVE), MODEL)
                    while not all(future.done() for future in clients.futures) and time.monotonic() < end:
                        time.sleep(chaos.pause())
                        happened[chaos.one()] += 1
                    clients.finish()
                    failures += clients.failures
                    failures += [f"{n} answers to one" for n in clients.answered.values() if n != 1]
                    answered, refused = answered + len(clients.answered), refused + clients.refused.total()
                    print(
                        f"{answered} answered, {refused} refused and sent again; {dict(happened)}", flush=True
                    )
                try:
                    settle(fleet)
                except AssertionError:
                    failures.append(f"left in Redis: {', '.join(sorted(fleet.keys())[:10])}")
        finally:
            server.process.kill()
            server.process.wait()
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for failure in (failures := run(options.minutes, options.seed)):
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
