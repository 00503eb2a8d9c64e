"""API keys: who may call, and how much at once. Off unless keys are set."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from service.errors import NotFound, Overloaded, TooManyRequests, Unauthorized
from service.settings import Settings


def sent_key(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class Access:
    def __init__(self, settings: Settings) -> None:
        given = (key.strip() for key in settings.api_keys.get_secret_value().split(","))
        self._digests = [_digest(key) for key in given if key]
        admin = settings.admin_key.get_secret_value()
        self._admin = _digest(admin) if admin else None
        self._limit = settings.key_concurrency
        self._listeners, self._most_listeners = 0, settings.listeners
        self._in_flight: Counter[bytes] = Counter()

    @property
    def keys_needed(self) -> bool:
        return bool(self._digests)

    @contextmanager
    def admitted(self, request: Request) -> Iterator[str]:
        """A place for this request under its key's limit, for as long as the request lasts.

        What is yielded tells this key's works from others'; it is empty where no keys are asked for.
        """
        if not self.keys_needed:
            yield ""
            return
        sent = _digest(sent_key(request))
        # Every key is compared, so that the time says nothing about which one nearly matched.
        if not sum(hmac.compare_digest(sent, known) for known in self._digests):
            raise Unauthorized("Send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.")
        if self._in_flight[sent] >= self._limit:
            raise TooManyRequests(
                f"This key already has {self._limit} requests in flight.", retry_after=1, limit=self._limit
            )
        self._in_flight[sent] += 1
        try:
            yield sent.hex()
        finally:
            self._in_flight[sent] -= 1
            if not self._in_flight[sent]:
                del self._in_flight[sent]

    @contextmanager
    def listening(self, request: Request) -> Iterator[str]:
        """As `admitted`, for an answer that lasts as long as somebody reads it."""
        with self.admitted(request) as owner:
            if self._listeners >= self._most_listeners:
                detail = f"{self._most_listeners} events are followed already (RETOUCH_LISTENERS); ask again."
                raise Overloaded(detail, retry_after=5, limit=self._most_listeners)
            self._listeners += 1
            try:
                yield owner
            finally:
                self._listeners -= 1

    def require_admin(self, request: Request) -> None:
        if self._admin is None:
            raise NotFound("This route is off; set RETOUCH_ADMIN_KEY to turn it on.")
        if not hmac.compare_digest(_digest(sent_key(request)), self._admin):
            raise Unauthorized("This route needs the admin key.")
