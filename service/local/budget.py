"""A bound on the pixels in memory at any one time, granted in the order of asking."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future


class Reservation:
    """So many pixels, once `granted` is done; `release` gives them back, or the place in the queue."""

    def __init__(self, budget: Budget, pixels: int) -> None:
        self.pixels = pixels
        self.granted: Future[None] = Future()
        self._budget = budget

    def release(self) -> None:
        self._budget.give_back(self)


class Budget:
    def __init__(self, pixels: int) -> None:
        self._capacity = pixels
        self._free = pixels
        self._queue: deque[Reservation] = deque()
        self._holders: set[Reservation] = set()
        self._lock = threading.Lock()

    def reserve(self, pixels: int) -> Reservation:
        # More than there is in all means all of it: a single picture may fill the budget.
        reservation = Reservation(self, min(pixels, self._capacity))
        with self._lock:
            self._queue.append(reservation)
            granted = self._grant()
        announce(granted)
        return reservation

    def give_back(self, reservation: Reservation) -> None:
        with self._lock:
            if reservation in self._holders:
                self._holders.remove(reservation)
                self._free += reservation.pixels
            elif reservation in self._queue:
                self._queue.remove(reservation)
            granted = self._grant()
        announce(granted)

    def _grant(self) -> list[Reservation]:
        granted = []
        while self._queue and self._queue[0].pixels <= self._free:
            reservation = self._queue.popleft()
            self._free -= reservation.pixels
            self._holders.add(reservation)
            granted.append(reservation)
        return granted


def announce(granted: list[Reservation]) -> None:
    """Outside the lock: what a future wakes may ask the budget for something at once."""
    for reservation in granted:
        if reservation.granted.set_running_or_notify_cancel():
            reservation.granted.set_result(None)
