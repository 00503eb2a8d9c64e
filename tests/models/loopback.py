"""A web server on loopback that serves files, and does to them what servers do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behave = Callable[["Handler", bytes], None]


@dataclass
class Site:
    """What is served, how it is served (in turn, the last for ever), and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: list[Behave] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, self.headers.get("Range")))
        if self.path not in site.files:
            self.send_error(404)
            return
        behave = site.behaviours[0] if site.behaviours else plain
        if len(site.behaviours) > 1:
            site.behaviours.pop(0)
        behave(self, site.files[self.path])

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is None:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def wants_rest(self, tag: str) -> int:
        """Where to begin, if the asker holds the same file."""
        given = self.headers.get("Range")
        if not given or self.headers.get("If-Range") != tag:
            return 0
        return int(given.removeprefix("bytes=").removesuffix("-"))

    def cut(self, content: bytes) -> None:
        """What is left of the answer never comes."""
        self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *arguments: object) -> None: ...


def plain(handler: Handler, content: bytes) -> None:
    """With ranges, as a good server has them."""
    start = handler.wants_rest('"one"')
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    status, headers = (206, {"Content_Range": span}) if start else (200, {})
    handler.begin(status, len(content) - start, ETag='"one"', **headers)
    handler.wfile.write(content[start:])


def cuts_at(share: float) -> Behave:
    """Ends after so much of the whole file."""

    def behave(handler: Handler, content: bytes) -> None:
        start, stop = handler.wants_rest('"one"'), int(len(content) * share)
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        status, headers = (206, {"Content_Range": span}) if start else (200, {})
        handler.begin(status, len(content) - start, ETag='"one"', **headers)
        handler.cut(content[start:stop])

    return behave


def serve(site: Site) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server
