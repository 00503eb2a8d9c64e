"""The application: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.api import health, jobs, models, openapi, page, pictures, problems, select
from service.api.access import Access
from service.api.adapters import inference, iopaint, openai
from service.api.middleware import BodyBounds, Heads, RequestContext, is_probe
from service.api.services import Services
from service.cache import make_cache
from service.cache.answers import Caching
from service.cache.store import Cache
from service.callbacks import Callbacks
from service.contracts import Dispatcher, Jobs, Submit
from service.observability.metrics import Metrics
from service.observability.tracing import telemetry
from service.settings import Settings, listed
from service.shutdown import Shutdown


@dataclass(frozen=True)
class Room:
    """Where works are computed and jobs are kept."""

    dispatcher: Dispatcher
    submit: Submit
    jobs: Jobs


MakeRoom = Callable[[Settings, Metrics, Cache, Callbacks], Room]


def local_room(
    settings: Settings,
    metrics: Metrics,
    cache: Cache,
    callbacks: Callbacks,
    dispatcher: Dispatcher | None = None,
) -> Room:
    # Imported late: torch takes a second that a process without an engine need not spend.
    from service.local.dispatcher import LocalDispatcher
    from service.local.jobs import MemoryJobs

    dispatcher = dispatcher or LocalDispatcher(settings, metrics)
    submit = Caching(dispatcher.submit, cache).submit
    return Room(dispatcher, submit, MemoryJobs(settings, submit, callbacks.start))


def redis_room(settings: Settings, metrics: Metrics, cache: Cache, callbacks: Callbacks) -> Room:
    from service.redis.dispatcher import RedisDispatcher
    from service.redis.jobs import RedisJobs

    dispatcher = RedisDispatcher(settings, metrics)
    # The workers put into the cache what they compute.
    return Room(dispatcher, dispatcher.submit, RedisJobs(settings, dispatcher, callbacks))


def configured_room(settings: Settings, metrics: Metrics, cache: Cache, callbacks: Callbacks) -> Room:
    make = redis_room if settings.dispatch == "redis" else local_room
    return make(settings, metrics, cache, callbacks)


def create_app(settings: Settings | None = None, make_room: MakeRoom = configured_room) -> FastAPI:
    settings = settings or Settings()
    metrics, cache, callbacks, shutdown = Metrics(), make_cache(settings), Callbacks(settings), Shutdown()
    room = make_room(settings, metrics, cache, callbacks)
    services = Services(
        settings,
        metrics,
        room.dispatcher,
        room.submit,
        cache,
        Access(settings),
        room.jobs,
        callbacks,
        shutdown,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await room.dispatcher.start()
        await room.jobs.start()
        try:
            yield
        finally:
            await room.dispatcher.stop(shutdown.left(settings.drain))
            await room.jobs.stop()
            await callbacks.stop()
            await cache.close()

    app = FastAPI(
        title="Retouch",
        version=__version__,
        summary="Fill holes in pictures, enlarge them by any factor.",
        lifespan=lifespan,
        telemetry=telemetry("retouch", is_probe),
        docs_url=None,  # the page module has a reference that fetches nothing from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    problems.install(app)
    for module in (pictures, select, jobs, models, health, openai, iopaint, inference):
        app.include_router(module.router)
    page.install(app)
    openapi.install(app)
    app.add_middleware(
        BodyBounds,
        max_bytes=settings.max_bytes,
        max_together=settings.upload_bytes,
        seconds=settings.body_timeout,
    )
    app.add_middleware(Heads)
    if origins := listed(settings.cors_origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=openapi.HEADERS,
        )
    app.add_middleware(RequestContext, metrics=metrics)
    return app
