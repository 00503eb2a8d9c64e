"""The HTTP server of `retouch serve` and `retouch worker`; SIGHUP has it read the models' manifests anew."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from service.errors import Problem
from service.protocol import BoundedProtocol
from service.settings import Settings, listed
from service.shutdown import Shutdown

BACKLOG = 2048
log = logging.getLogger("retouch.server")


class ListenError(OSError):
    """The address to listen on cannot be had; the message is fit to show."""


def silent(_: str) -> None: ...


class Server(uvicorn.Server):
    """`announce` hears the address, with the port that it really is, once it can be called."""

    def __init__(
        self,
        config: uvicorn.Config,
        shutdown: Shutdown,
        reload: Callable[[], Awaitable[None]],
        announce: Callable[[str], None] = silent,
    ) -> None:
        super().__init__(config)
        self._shutdown = shutdown
        self._reload = reload
        self._announce = announce
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # As uvicorn does: a server on another thread hears no signals.
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up)
        if self.started and sockets:
            host, port, *_ = sockets[0].getsockname()
            self._announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def _hung_up(self) -> None:
        self._reloading = asyncio.create_task(self._read_anew())

    async def _read_anew(self) -> None:
        try:
            await self._reload()
            log.info("the models are as their manifests say now")
        except Problem as problem:
            log.error("the models stay as they were: %s", problem.detail)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shutdown.begin()
        await super().shutdown(sockets)


def allow_many_connections() -> None:
    """A request holds one to its client and, over Redis, another; a thousand in all are often the default."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no Unix, or one that allows no more
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def bound(host: str, port: int) -> socket.socket:
    """A socket with the address, before anything is loaded for it; ListenError says why it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(address)
            held.listen(BACKLOG)
        except BaseException:
            held.close()
            raise
    except OSError as error:
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ListenError(
            f"cannot listen on port {port} of {host}: {reason}; --port chooses another"
        ) from None
    return held


def run_server(
    app: FastAPI, settings: Settings, listener: socket.socket, announce: Callable[[str], None]
) -> int:
    allow_many_connections()
    # uvicorn raises the signal that ended it once more when it is done; an orderly end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        app,
        backlog=BACKLOG,
        root_path=settings.root_path,
        forwarded_allow_ips=listed(settings.trusted_proxies),
        log_config=None,
        access_log=False,
        http=cast(Any, partial(BoundedProtocol, max_connections=settings.max_connections)),
        ws="none",
        # Longer than the usual proxy's idle time, so that it is never us who closes first.
        timeout_keep_alive=65,
        # The dispatcher drains within `drain`; what is left after that has been answered with a problem.
        timeout_graceful_shutdown=int(settings.drain) + 5,
    )
    services = app.state.services
    Server(config, services.shutdown, services.dispatcher.reload, announce).run([listener])
    return 0
