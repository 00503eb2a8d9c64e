"""The HTTP server of `retouch serve` and `retouch worker`."""

from __future__ import annotations

import signal
import socket

import uvicorn
from fastapi import FastAPI

from service.allocator import keep_freed_memory
from service.settings import Settings
from service.stopping import Stopping


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: Stopping) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.begin()
        await super().shutdown(sockets)


def run_server(app: FastAPI, settings: Settings) -> int:
    keep_freed_memory()
    # uvicorn raises the signal that ended it once more when it is done; an orderly end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        http="httptools",
        # Longer than the usual proxy's idle time, so that it is never us who closes first.
        timeout_keep_alive=65,
        # The dispatcher drains within `drain`; what is left after that has been answered with a problem.
        timeout_graceful_shutdown=int(settings.drain) + 5,
    )
    Server(config, app.state.stopping).run()
    return 0
