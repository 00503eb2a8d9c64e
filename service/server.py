"""The HTTP server of `retouch serve` and `retouch worker`."""

from __future__ import annotations

import contextlib
import signal
import socket
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from service.allocator import keep_freed_memory
from service.protocol import BoundedProtocol
from service.settings import Settings
from service.shutdown import Shutdown


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._shutdown = shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shutdown.begin()
        await super().shutdown(sockets)


def allow_many_connections() -> None:
    """A request holds one to its client and, over Redis, another; a thousand in all are often the default."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no Unix, or one that allows no more
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_server(app: FastAPI, settings: Settings) -> int:
    keep_freed_memory()
    allow_many_connections()
    # uvicorn raises the signal that ended it once more when it is done; an orderly end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        http=cast(Any, partial(BoundedProtocol, max_connections=settings.max_connections)),
        ws="none",
        # Longer than the usual proxy's idle time, so that it is never us who closes first.
        timeout_keep_alive=65,
        # The dispatcher drains within `drain`; what is left after that has been answered with a problem.
        timeout_graceful_shutdown=int(settings.drain) + 5,
    )
    Server(config, app.state.services.shutdown).run()
    return 0
