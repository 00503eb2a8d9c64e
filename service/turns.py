"""Places given in turn: who wants many of them waits behind himself, not before others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """So many places, at most `each` of them for one caller."""

    def __init__(self, places: int, each: int) -> None:
        self._free = places
        self._each = each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, dict[Hashable, asyncio.Future[None]]] = {}  # whose turn is next comes first

    @asynccontextmanager
    async def place(self, caller: str, name: Hashable = None) -> AsyncIterator[None]:
        """A place when it is this caller's turn; `name` tells where in the queue it is meanwhile."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        name = granted if name is None else name
        self._waiting.setdefault(caller, {})[name] = granted
        self._grant()
        try:
            await granted
            yield
        finally:
            if granted.cancelled():
                self._leave(caller, name)
            else:
                self._free += 1
                self._held[caller] -= 1
                if not self._held[caller]:
                    del self._held[caller]
            self._grant()

    def ahead(self, caller: str, name: Hashable) -> int:
        """How many come before it, if nobody else comes; none if it does not wait yet, or any more."""
        names = list(self._waiting.get(caller, ()))
        if name not in names:
            return 0
        own = names.index(name)
        before, count = 1, own  # those before the caller in this round have one turn more
        for other, queue in self._waiting.items():
            if other == caller:
                before = 0
            else:
                count += min(len(queue), own + before)
        return count

    def _leave(self, caller: str, name: Hashable) -> None:
        queue = self._waiting.get(caller, {})
        queue.pop(name, None)
        if not queue:
            self._waiting.pop(caller, None)

    def _grant(self) -> None:
        while self._free:
            caller = next((caller for caller in self._waiting if self._held[caller] < self._each), None)
            if caller is None:
                return
            queue = self._waiting.pop(caller)
            granted = queue.pop(next(iter(queue)))
            if queue:
                self._waiting[caller] = queue  # behind the others
            if not granted.done():
                granted.set_result(None)
                self._free -= 1
                self._held[caller] += 1
