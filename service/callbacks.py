"""Telling a caller's own address that a job is over: signed, repeated, and never into our own network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.contracts import Job
from service.errors import Unprocessable
from service.settings import Settings
from service.turns import Turns

log = logging.getLogger("retouch.callbacks")

PAUSES = (1.0, 5.0, 25.0, 125.0)  # seconds between attempts
TIMEOUT = 10.0  # seconds of an attempt, from the look-up of the name to the status
PATIENCE = 240.0  # seconds of a delivery, all attempts and waiting for a turn included
AT_ONCE, EACH = 64, 4  # attempts, and those of one caller or, where there are no keys, to one host
UNDER_WAY = 1000  # deliveries of one caller; further ones are given up
SECRET_PREFIX = "whsec_"  # what follows is base64; other secrets are taken as they are

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses that are somebody's own: all others are reserved, or stand for an IPv4 address or a network
# behind a translator.
UNICAST = ipaddress.ip_network("2000::/3")
NOT_PUBLIC = [ipaddress.ip_network(network) for network in ("2001::/23", "2002::/16", "3fff::/20")]
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
PORTS = {"http": 80, "https": 443}
UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")


class Forbidden(Exception):
    """The address must not be called, now or later."""


def signed(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks (standardwebhooks.com), for which receivers find verifiers ready.

    The time is signed too, so that a receiver can refuse what is sent again later.
    """
    plain = secret.removeprefix(SECRET_PREFIX)
    key = plain.encode() if plain == secret else base64.b64decode(plain)
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def target(url: str) -> tuple[str, int]:
    """Host and port of an address; ValueError if it has none that can be called."""
    parts = urlsplit(url)
    port = PORTS.get(parts.scheme) if parts.port is None else parts.port
    if parts.scheme not in PORTS or parts.username is not None or not parts.hostname or not port:
        raise ValueError("no scheme, host or port, or a user")
    return parts.hostname.encode("idna").decode().lower(), port


class Callbacks:
    def __init__(self, settings: Settings) -> None:
        self._secret = settings.callback_secret.get_secret_value()
        given = (network.strip() for network in settings.callback_networks.split(","))
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in given if network]
        self._open: set[asyncio.Task[bool]] = set()
        self._turns = Turns(AT_ONCE, EACH)
        self._under_way: Counter[str] = Counter()  # deliveries, by caller
        # Of its own: a name that is looked up for long must not hold up what else uses threads.
        self._resolving = ThreadPoolExecutor(AT_ONCE, "resolve")

    @property
    def on(self) -> bool:
        return bool(self._secret)

    def check(self, url: str) -> str:
        """The URL of a request, if it is one that may be called at all."""
        if not url:
            return ""
        if not self.on:
            raise Unprocessable("Callbacks are off; set RETOUCH_CALLBACK_SECRET to turn them on.")
        try:
            callable = len(url) <= 2000 and not UNPRINTABLE.search(url) and HOST.fullmatch(target(url)[0])
            httpx.URL(url)  # will have to read it too
        except (ValueError, httpx.InvalidURL):
            callable = False
        if not callable:
            raise Unprocessable("callback_url must be an http or https address without a user name.")
        return url

    def start(self, url: str, job: Job) -> None:
        """Deliver in the background, of this process."""
        task = asyncio.create_task(self.deliver(url, job))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def stop(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._resolving.shutdown(wait=False, cancel_futures=True)

    async def deliver(self, url: str, job: Job) -> bool:
        """Whether the receiver took it. A caller's deliveries wait for each other, not for others'."""
        caller = job.owner or urlsplit(url).netloc
        if self._under_way[caller] >= UNDER_WAY:
            log.warning("no callback for %s: %d others of its caller are under way", job.id, UNDER_WAY)
            return False
        self._under_way[caller] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._insist(url, job, caller)
        except TimeoutError:
            log.warning("callback for %s was given up", job.id)
            return False
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    async def _insist(self, url: str, job: Job, caller: str) -> bool:
        body = json.dumps(job.public).encode()
        for pause in (*PAUSES, None):
            try:
                async with self._turns.place(caller), asyncio.timeout(TIMEOUT):
                    status = await self._post(url, job.id, body)
            except Forbidden as error:
                log.warning("no callback for %s: %s", job.id, error)
                return False
            except (httpx.HTTPError, OSError, ValueError) as error:
                log.info("callback for %s failed: %s", job.id, type(error).__name__)
            else:
                # What the receiver refuses for good does not become better by repetition.
                if status < 500 and status not in (408, 425, 429):
                    return status < 300
            if pause is not None:
                await asyncio.sleep(pause)
        log.warning("callback for %s was given up", job.id)
        return False

    async def _post(self, url: str, id: str, body: bytes) -> int:
        """The status of what was answered, of which no more is read.

        Sent to the very address that was checked: looked up again, the name could lead elsewhere.
        """
        host, port = target(url)
        checked = httpx.URL(url).copy_with(host=await self._address(host, port), port=port)
        headers = {
            "Host": httpx.URL(url).netloc.decode(),
            "Content-Type": "application/json",
            **signed(self._secret, id, int(time.time()), body),
        }
        options: dict[str, Any] = {"verify": self._certificates, "trust_env": False}
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, **options) as client:
            request = client.build_request(
                "POST", checked, content=body, headers=headers, extensions={"sni_hostname": host}
            )
            response = await client.send(request, stream=True)
            await response.aclose()
            return response.status_code

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        """Read once: it takes a good part of what a delivery does."""
        return httpx.create_ssl_context(trust_env=False)

    async def _address(self, host: str, port: int) -> str:
        find = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._resolving, find)
        addresses = [str(address[0]) for *_, address in found]
        for address in addresses:
            # One forbidden address is enough: which of them is used must not be left to chance.
            if not self.allowed(address):
                raise Forbidden(f"{host} leads to {address}, which is not a public address")
        return addresses[0]

    def allowed(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._networks):
            return True
        public = parsed.is_global and not parsed.is_multicast
        if isinstance(parsed, ipaddress.IPv6Address):
            return public and parsed in UNICAST and not any(parsed in network for network in NOT_PUBLIC)
        return public
