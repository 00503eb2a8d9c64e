"""Telling a caller's own address that a job is over: signed, repeated, and never into our own network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import time
from urllib.parse import urlsplit

import httpx

from service.contracts import Job
from service.errors import Unprocessable
from service.settings import Settings

log = logging.getLogger("retouch.callbacks")

PAUSES = (1.0, 5.0, 25.0, 125.0)  # seconds between attempts
TIMEOUT = 10.0
SECRET_PREFIX = "whsec_"  # what follows is base64; other secrets are taken as they are

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


class Callbacks:
    def __init__(self, settings: Settings) -> None:
        self._secret = settings.callback_secret.get_secret_value()
        given = (network.strip() for network in settings.callback_networks.split(","))
        self._networks: list[Network] = [ipaddress.ip_network(network) for network in given if network]
        self._open: set[asyncio.Task[bool]] = set()

    @property
    def on(self) -> bool:
        return bool(self._secret)

    def check(self, url: str) -> str:
        """The URL of a request, if it is one that may be called at all."""
        if not url:
            return ""
        if not self.on:
            raise Unprocessable("Callbacks are off; set RETOUCH_CALLBACK_SECRET to turn them on.")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > 2000:
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

    async def deliver(self, url: str, job: Job) -> bool:
        body = json.dumps(job.public).encode()
        for pause in (*PAUSES, None):
            try:
                response = await self._post(url, job.id, body)
            except Forbidden as error:
                log.warning("no callback for %s: %s", job.id, error)
                return False
            except (httpx.HTTPError, OSError) as error:
                log.info("callback for %s failed: %s", job.id, type(error).__name__)
            else:
                # What the receiver refuses for good does not become better by repetition.
                if response < 500 and response not in (408, 425, 429):
                    return response < 300
            if pause is not None:
                await asyncio.sleep(pause)
        log.warning("callback for %s was given up", job.id)
        return False

    async def _post(self, url: str, id: str, body: bytes) -> int:
        """To the very address that was checked: looked up again, the name could lead elsewhere."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._address(host, port)
        target = httpx.URL(url).copy_with(host=address, port=port)
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            **signed(self._secret, id, int(time.time()), body),
        }
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
            response = await client.post(
                target, content=body, headers=headers, extensions={"sni_hostname": host}
            )
            return response.status_code

    async def _address(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
        return parsed.is_global and not parsed.is_multicast
