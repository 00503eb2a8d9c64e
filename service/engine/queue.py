"""Windows waiting for the device: grouped by what may share a batch, fair between callers and their runs."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.engine.windows import Pixels, Window
from service.errors import Problem

if TYPE_CHECKING:
    from service.work import Run

# A group served less recently than this goes first, however large the others are.
PATIENCE = 0.25


@dataclass(frozen=True)
class Computed:
    outputs: list[Pixels]
    queue: float  # seconds until the first window started
    compute: float  # seconds from then to the end of the last


@dataclass(eq=False)
class Ticket:
    """The windows of one run that were asked for together, and the one answer that they will get."""

    run: Run
    model: str
    windows: Sequence[Window]
    future: Future[Computed] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None

    def __post_init__(self) -> None:
        # A waiter that leaves must not cancel the future under the engine's hands; the run says it is gone.
        self.future.set_running_or_notify_cancel()
        self.served = self.submitted
        self._outputs: dict[int, Pixels] = {}
        self.run.progress.expect(len(self.windows))

    def start(self, now: float) -> None:
        self.served = now
        if self.started is None:
            self.started = now

    def answer(self, index: int, output: Pixels) -> None:
        self._outputs[index] = output
        self.run.progress.computed()
        if len(self._outputs) == len(self.windows) and not self.future.done():
            now = time.monotonic()
            started = self.started or now
            outputs = [self._outputs[i] for i in range(len(self.windows))]
            with suppress(InvalidStateError):  # failed by another thread in between
                self.future.set_result(Computed(outputs, started - self.submitted, now - started))

    def fail(self, problem: Problem) -> None:
        with suppress(InvalidStateError):  # only the first answer counts
            self.future.set_exception(problem)


@dataclass(frozen=True)
class Slot:
    ticket: Ticket
    index: int

    @property
    def window(self) -> Window:
        return self.ticket.windows[self.index]


class Group:
    """Windows that may share a batch. Callers take turns, and of each caller the runs do."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, OrderedDict[Ticket, deque[int]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(indices) for _, indices in self.items())

    def __bool__(self) -> bool:
        return bool(self._callers)

    def items(self) -> Iterator[tuple[Ticket, deque[int]]]:
        return (pair for tickets in self._callers.values() for pair in tickets.items())

    def add(self, ticket: Ticket, index: int) -> None:
        tickets = self._callers.setdefault(ticket.run.work.owner, OrderedDict())
        tickets.setdefault(ticket, deque()).append(index)

    def take(self) -> Slot:
        caller, tickets = self._callers.popitem(last=False)
        ticket, indices = tickets.popitem(last=False)
        slot = Slot(ticket, indices.popleft())
        if indices:
            tickets[ticket] = indices
        if tickets:
            self._callers[caller] = tickets
        return slot

    def remove(self, ticket: Ticket) -> list[Slot]:
        caller = ticket.run.work.owner
        indices = self._callers[caller].pop(ticket)
        if not self._callers[caller]:
            del self._callers[caller]
        return [Slot(ticket, index) for index in indices]


class WindowQueue:
    """Not thread-safe: the engine holds its lock round every call."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, Hashable], Group] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, ticket: Ticket) -> None:
        for index, window in enumerate(ticket.windows):
            self._groups.setdefault((ticket.model, window.shape), Group()).add(ticket, index)

    def weights(self) -> Iterator[tuple[str, float]]:
        """(model, weight) of every window that waits."""
        for (model, _), group in self._groups.items():
            for ticket, indices in group.items():
                yield model, sum(ticket.windows[index].weight for index in indices)

    def remove(self, unwanted: Callable[[Ticket], bool]) -> list[Slot]:
        removed = []
        for key, group in list(self._groups.items()):
            for ticket in [ticket for ticket, _ in group.items() if unwanted(ticket)]:
                removed += group.remove(ticket)
            if not group:
                del self._groups[key]
        return removed

    def take(self, limit: Callable[[str, Window], int]) -> list[Slot]:
        """The next batch: of the largest group, unless another has been waiting for too long.

        `limit` says how many windows like one of a model may share it. A group's callers and runs take turns,
        so that neither a hundred pictures nor one of a thousand tiles holds up a small one of somebody else.
        """
        if not self._groups:
            return []
        key = self._choose(limit)
        group = self._groups[key]
        most = self._limit(key, limit)
        batch: list[Slot] = []
        while group and len(batch) < most:
            batch.append(group.take())
        if not group:
            del self._groups[key]
        return batch

    def _limit(self, key: tuple[str, Hashable], limit: Callable[[str, Window], int]) -> int:
        ticket, indices = next(self._groups[key].items())
        return limit(key[0], ticket.windows[indices[0]])

    def _choose(self, limit: Callable[[str, Window], int]) -> tuple[str, Hashable]:
        def since(key: tuple[str, Hashable]) -> float:
            return min(ticket.served for ticket, _ in self._groups[key].items())

        def size(key: tuple[str, Hashable]) -> int:
            return min(self._limit(key, limit), len(self._groups[key]))

        oldest = min(self._groups, key=since)
        if time.monotonic() - since(oldest) > PATIENCE:
            return oldest
        return max(self._groups, key=lambda key: (size(key), -since(key)))
