"""What the routes work with, made once an application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request

from service.api.keys import Keys
from service.cache.single_flight import SingleFlight
from service.cache.store import Cache
from service.dispatch.protocol import Dispatcher
from service.jobs.job import Result, Task
from service.observability.metrics import Metrics
from service.orders.callbacks import Callbacks
from service.orders.order import Orders
from service.settings import Settings


class Backend(Dispatcher, Protocol):
    """A dispatcher that also knows what is installed, and what of it is on the device."""

    def models(self) -> list[dict[str, Any]]: ...

    def resolve(self, task: Task, name: str | None) -> tuple[str, str]:
        """Name and weights digest of the model that answers; NotFound when there is none."""

    async def load(self, name: str) -> None: ...

    async def unload(self, name: str) -> None: ...


@dataclass
class Services:
    settings: Settings
    metrics: Metrics
    dispatcher: Backend
    cache: Cache
    keys: Keys
    orders: Orders
    callbacks: Callbacks
    flights: SingleFlight[Result] = field(default_factory=SingleFlight)


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found
