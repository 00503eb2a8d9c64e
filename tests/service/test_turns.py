"""Places are given in turn."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from service.turns import Turns


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_turns_go_round_and_every_place_is_given_back(callers, places, each):
    async def run() -> list[str]:
        turns = Turns(places, each)
        order: list[str] = []
        held: list[str] = []

        async def one(caller: str, name: int) -> None:
            async with turns.place(caller, name):
                order.append(caller)
                held.append(caller)
                assert len(held) <= places
                assert held.count(caller) <= each
                await asyncio.sleep(0)
                held.remove(caller)

        await asyncio.gather(*(one(caller, name) for name, caller in enumerate(callers)))
        assert not turns._waiting
        assert not turns._held
        assert turns._free == places
        return order

    assert sorted(asyncio.run(run())) == sorted(callers)


def test_the_place_in_the_queue_is_what_comes_before():
    async def run() -> None:
        turns = Turns(1, 1)
        order: list[str] = []

        async def one(caller: str, name: str) -> None:
            async with turns.place(caller, name):
                order.append(name)
                await asyncio.sleep(0)

        async with turns.place("z"):
            names = ["a0", "a1", "a2", "b0", "b1", "c0", "a3"]
            tasks = [asyncio.create_task(one(name[0], name)) for name in names]
            await asyncio.sleep(0)
            said = {name: turns.ahead(name[0], name) for name in names}
        await asyncio.gather(*tasks)
        assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]
        assert said == {name: place for place, name in enumerate(order)}

    asyncio.run(run())


def test_who_leaves_takes_no_turn():
    async def run() -> None:
        turns = Turns(1, 1)
        async with turns.place("a"):
            waiting = [asyncio.create_task(turns.place(caller).__aenter__()) for caller in "abc"]
            await asyncio.sleep(0)
            for task in waiting[:2]:
                task.cancel()
            await asyncio.gather(*waiting[:2], return_exceptions=True)
        await asyncio.wait_for(waiting[2], 1)
        assert not turns._waiting

    asyncio.run(run())
