"""What the routes work with, made once an application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from service.api.access import Access
from service.cache.single_flight import SingleFlight
from service.cache.store import Cache
from service.callbacks import Callbacks
from service.contracts import Dispatcher, Jobs, Submit
from service.observability.metrics import Metrics
from service.settings import Settings
from service.shutdown import Shutdown
from service.work import Result


@dataclass
class Services:
    settings: Settings
    metrics: Metrics
    dispatcher: Dispatcher
    submit: Submit  # the dispatcher's; where it computes in this process, through the cache
    cache: Cache
    access: Access
    jobs: Jobs
    callbacks: Callbacks
    shutdown: Shutdown
    flights: SingleFlight[Result] = field(default_factory=SingleFlight)
    # Selections at once: each takes a core that works could use.
    selecting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found
