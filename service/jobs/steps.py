"""Recipes: the work on one job, as a generator that stops wherever it has to wait.

A recipe yields the future that it needs and is sent that future's result. So the one recipe serves both
drivers: a thread that waits (the command line) and an event loop that must not (the server). The first wait
of every recipe is for memory, before any pixel is decoded; up to the second it decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from service.jobs.job import Result

Recipe = Generator[Future[Any], Any, Result]


def begin(recipe: Recipe) -> Future[Any]:
    """Run the recipe to its first wait."""
    return next(recipe)


def resume(recipe: Recipe, awaited: Future[Any]) -> Future[Any] | Result:
    """Run the recipe on to its next wait, or to its end; `awaited` is done."""
    error = awaited.exception()
    if error is not None:
        return _advance(lambda: recipe.throw(error))
    return _advance(lambda: recipe.send(awaited.result()))


def _advance(step: Callable[[], Future[Any]]) -> Future[Any] | Result:
    try:
        return step()
    except StopIteration as finished:
        result: Result = finished.value
        return result
