"""Every setting, in one place, read from the environment with the prefix RETOUCH_."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import UsageError, nearest

PREFIX = "RETOUCH_"
ALSO_READ = ("RETOUCH_API_KEY",)  # by `retouch batch --server`
DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
REDIS_SCHEMES = ("redis", "rediss", "unix")


def listed(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def known_device(name: str) -> str:
    # A natural guess, which can mean nothing else.
    name = re.sub(r"^(gpu|nvidia)\b", "cuda", name.strip().lower())
    if not DEVICE.fullmatch(name):
        raise ValueError(f"a device is auto, cpu, cuda or cuda:N{nearest(name, ('auto', 'cpu', 'cuda'))}")
    return name


def folder(path: Path | None) -> Path | None:
    if path is not None and not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def redis_address(url: str | None) -> str | None:
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or not (parts.hostname or parts.path):
        raise ValueError("an address is written redis://HOST:PORT/NUMBER, rediss:// or unix:///PATH")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port is not a number from 0 to 65535") from None
    return url


def networks(text: str) -> str:
    for network in listed(text):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ValueError(f"{error}; write networks as 10.1.0.0/16, with commas between") from None
    return text


def origins(text: str) -> str:
    for origin in listed(text):
        if origin != "*" and not re.fullmatch(r"https?://[^/]+", origin):
            raise ValueError(f"{origin!r} is no origin; write https://HOST, or * for all")
    return text


def prefix(path: str) -> str:
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/[\w.~-]+)+", path):
        raise ValueError("a prefix is written /like/this")
    return path


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


InCapitals = BeforeValidator(lower)  # or not
RedisUrl = Annotated[str | None, AfterValidator(redis_address)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    root_path: Annotated[str, AfterValidator(prefix)] = Field(
        "", description="prefix under which a proxy serves us, and which it strips"
    )
    trusted_proxies: Annotated[str, AfterValidator(networks)] = Field(
        "127.0.0.1", description="addresses and networks whose X-Forwarded-For says who calls"
    )
    device: Annotated[str, AfterValidator(known_device)] = Field(
        "auto", description="auto, cpu, cuda (all GPUs) or cuda:N"
    )
    weights_dir: Annotated[Path | None, AfterValidator(folder)] = None
    warm: str = Field("", description="models to load at start, comma-separated; the defaults when empty")

    # What a caller may send.
    max_bytes: int = Field(50_000_000, ge=1, description="largest request body")
    max_pixels: int = Field(50_000_000, ge=1, description="most pixels of a picture, read or written")
    max_side: int = Field(16_384, ge=1, description="longest side of a picture, read or written")

    # How much work is taken on.
    max_wait: float = Field(30.0, gt=0, description="refuse work estimated to wait longer, in seconds")
    timeout: float = Field(120.0, gt=0, description="deadline of a request, in seconds")
    max_batch: int = Field(16, ge=1, description="most windows that run together")
    codec_threads: int = Field(0, ge=0, description="threads that decode and encode; 0: one a core")
    pixel_budget: int = Field(200_000_000, ge=1, description="pixels decoded at any one time")
    resident_bytes: int = Field(0, ge=0, description="device bytes for resident models; 0: half the device")
    backend: Annotated[Literal["torch", "onnx"], InCapitals] = "torch"
    precision: Annotated[Literal["auto", "float32", "float16", "bfloat16"], InCapitals] = "auto"
    max_connections: int = Field(4096, ge=1, description="connections that callers may hold")
    upload_bytes: int = Field(400_000_000, ge=1, description="bytes of all uploads that are being answered")
    body_timeout: float = Field(60.0, gt=0, description="longest time an upload may take, in seconds")
    drain: float = Field(30.0, ge=0, description="seconds that a stopping server gives accepted work")

    # Cache.
    cache_bytes: int = Field(256_000_000, ge=0, description="memory cache; 0 turns it off")
    redis_url: RedisUrl = None
    cache_url: RedisUrl = Field(None, description="Redis of the cache alone; redis_url when left out")
    redis_timeout: float = Field(0.25, gt=0, description="longest wait for the cache, in seconds")
    cache_ttl: int = Field(86_400, ge=1, description="life of an entry in Redis, in seconds")
    cache_entry_bytes: int = Field(20_000_000, ge=1, description="largest result worth caching")

    # Jobs: requests whose answers are fetched later.
    job_timeout: float = Field(3600.0, gt=0, description="deadline of a job, in seconds")
    job_ttl: int = Field(3600, ge=1, description="life of a finished job and its result, in seconds")
    job_bytes: int = Field(1_000_000_000, ge=1, description="bytes that jobs and their results may hold")
    key_job_bytes: int = Field(250_000_000, ge=1, description="of these, what one key's may hold")
    callback_secret: SecretStr = Field(SecretStr(""), description="signs callbacks; empty: no callbacks")
    callback_networks: Annotated[str, AfterValidator(networks)] = Field(
        "", description="private networks that callbacks may reach, as CIDRs"
    )

    # Workers elsewhere.
    dispatch: Annotated[Literal["local", "redis"], InCapitals] = Field(
        "local", description="where pictures are computed"
    )
    lease: float = Field(6.0, gt=0, le=30, description="seconds after which a silent worker's jobs move on")
    worker_port: int = Field(8001, ge=0, le=65535, description="a worker's health and metrics")
    worker_places: int = Field(0, ge=0, description="jobs a worker holds; 0: what its device can batch")

    # Who may call.
    api_keys: SecretStr = Field(SecretStr(""), description="comma-separated; empty: open to everyone")
    admin_key: SecretStr = Field(
        SecretStr(""), description="allows loading, unloading and reloading; empty: off"
    )
    key_concurrency: int = Field(16, ge=1, description="requests a key may have in flight")
    listeners: int = Field(1000, ge=1, description="most events of jobs that are followed at any one time")
    cors_origins: Annotated[str, AfterValidator(origins)] = Field(
        "", description="comma-separated origins; empty: off"
    )

    log_level: Annotated[Literal["debug", "info", "warning", "error"], InCapitals] = "info"
    log_format: Annotated[Literal["auto", "json", "text"], InCapitals] = "auto"

    @model_validator(mode="after")
    def _redis_is_named(self) -> Settings:
        if self.dispatch == "redis" and not self.redis_url:
            raise ValueError("RETOUCH_DISPATCH=redis needs RETOUCH_REDIS_URL")
        return self


def read_settings() -> Settings:
    """UsageError names each variable that is wrong, a warning each that is none of ours."""
    for name in unknown(os.environ):
        close = nearest(name, (variable(field) for field in Settings.model_fields))
        print(f"retouch: {name} is no setting{close or '; it is ignored'}", file=sys.stderr)
    try:
        return Settings()
    except ValidationError as error:
        raise UsageError(
            "\n".join(
                ": ".join([*(variable(str(part)) for part in finding["loc"][:1]), said(finding["msg"])])
                for finding in error.errors()
            )
        ) from None


def variable(field: str) -> str:
    return PREFIX + field.upper()


def unknown(environment: Mapping[str, str]) -> list[str]:
    known = {variable(field) for field in Settings.model_fields} | set(ALSO_READ)
    return sorted(
        name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known
    )


def said(message: str) -> str:
    return message.removeprefix("Value error, ")
