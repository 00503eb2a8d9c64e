"""The application: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.api import health, jobs, models, page, pictures, problems
from service.api.keys import Keys
from service.api.middleware import BodyBounds, RequestContext
from service.api.services import Backend, Services
from service.cache import make_cache
from service.cache.store import Cache
from service.observability.metrics import Metrics
from service.orders.callbacks import Callbacks
from service.orders.memory import MemoryOrders
from service.orders.order import Orders
from service.settings import Settings
from service.stopping import Stopping


def local_backend(settings: Settings, metrics: Metrics) -> Backend:
    # Imported late: torch takes a second that a process without an engine need not spend.
    from service.dispatch.local import LocalDispatcher

    return LocalDispatcher(settings, metrics)


def redis_backend(settings: Settings, metrics: Metrics) -> Backend:
    from service.dispatch.redis.producer import RedisDispatcher

    return RedisDispatcher(settings, metrics)


def configured_backend(settings: Settings, metrics: Metrics) -> Backend:
    return (redis_backend if settings.dispatch == "redis" else local_backend)(settings, metrics)


def make_orders(settings: Settings, backend: Backend, cache: Cache, callbacks: Callbacks) -> Orders:
    if settings.dispatch == "redis":
        from service.dispatch.redis.orders import RedisOrders
        from service.dispatch.redis.producer import RedisDispatcher

        assert isinstance(backend, RedisDispatcher)
        return RedisOrders(settings, backend, callbacks)
    return MemoryOrders(settings, backend, cache, callbacks.start)


def create_app(
    settings: Settings | None = None,
    make_backend: Callable[[Settings, Metrics], Backend] = configured_backend,
) -> FastAPI:
    settings = settings or Settings()
    metrics = Metrics()
    dispatcher = make_backend(settings, metrics)
    callbacks = Callbacks(settings)
    cache = make_cache(settings)
    orders = make_orders(settings, dispatcher, cache, callbacks)
    stopping = Stopping()
    services = Services(settings, metrics, dispatcher, cache, Keys(settings), orders, callbacks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await dispatcher.start()
        await orders.start()
        try:
            yield
        finally:
            await dispatcher.stop(stopping.left(settings.drain))
            await orders.stop()
            await callbacks.stop()
            await services.cache.close()

    app = FastAPI(
        title="Retouch",
        summary="Fill holes in pictures, enlarge them by any factor.",
        lifespan=lifespan,
    )
    app.state.services, app.state.stopping = services, stopping
    problems.install(app)
    for module in (pictures, jobs, models, health):
        app.include_router(module.router)
    page.install(app)
    app.add_middleware(BodyBounds, max_bytes=settings.max_bytes, seconds=settings.body_timeout)
    if settings.cors_origins:
        origins = [origin.strip() for origin in settings.cors_origins.split(",")]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(RequestContext, metrics=metrics)
    return app
