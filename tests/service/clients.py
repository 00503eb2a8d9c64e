"""Clients of a fleet that loses processes: each wants one right answer to each of its requests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import numpy as np

from tests.service.engines import until
from tests.service.fleet import FleetOfProcesses, Process
from tests.service.pictures import pixels_of, png, square

CLIENTS = 16
SIDE = 40
PATIENCE = 60  # seconds until what must happen has happened, on a busy machine too
MASK = png(square(SIDE, SIDE))


def picture(number: int) -> np.ndarray:
    """Every job's own, so that an answer tells which job it belongs to."""
    return np.full((SIDE, SIDE, 3), (number % 250, number // 250, 7), np.uint8)


def fill(client: httpx.Client, api: Process, number: int, model: str = "toy-fill") -> httpx.Response:
    files = {"image": png(picture(number)), "mask": MASK}
    return client.post(
        f"{api.url}/inpaint",
        params={"model": model},
        files=files,
        headers={"X-Request-ID": f"job-{number}"},
        timeout=60,
    )


def check(response: httpx.Response, number: int) -> None:
    answer = pixels_of(response.content)
    known = square(SIDE, SIDE) == 0
    assert np.array_equal(answer[known], picture(number)[known])


def settle(fleet: FleetOfProcesses, wanted: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """What the last answers leave is deleted right after them."""
    until(lambda: fleet.keys() == wanted)


class Clients:
    """Sixteen clients that work off the jobs, and come back when they are told to."""

    def __init__(self, apis: list[Process], jobs: Iterable[int], model: str = "toy-fill") -> None:
        self._apis, self._model = apis, model
        self.answered: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.failures: list[str] = []
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._client = httpx.Client()
        self.futures: list[Future[None]] = [self._pool.submit(self._one, number) for number in jobs]

    def _one(self, number: int) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            response = fill(self._client, self._apis[number % len(self._apis)], number, self._model)
            if response.status_code == 200:
                check(response, number)
                self.answered[number] += 1
                return
            if response.status_code != 503:
                self.failures.append(response.text)
                return
            assert int(response.headers["retry-after"]) >= 1
            self.refused[response.status_code] += 1
            time.sleep(0.1)  # clients come again sooner than told: the test is not to last so long
        self.failures.append(f"job {number} was refused for a minute")

    def until(self, done: int) -> None:
        until(lambda: sum(self.answered.values()) + len(self.failures) >= done, PATIENCE)

    def finish(self) -> None:
        self._pool.shutdown()
        self._client.close()
        for future in self.futures:
            future.result()
