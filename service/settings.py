"""Every setting, in one place, read from the environment with the prefix RETOUCH_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RETOUCH_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    weights_dir: Path | None = None
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
    backend: Literal["torch", "onnx"] = "torch"
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    body_timeout: float = Field(60.0, gt=0, description="longest time an upload may take, in seconds")
    drain: float = Field(30.0, ge=0, description="seconds that a stopping server gives accepted work")

    # Cache.
    cache_bytes: int = Field(256_000_000, ge=0, description="memory cache; 0 turns it off")
    redis_url: str | None = None
    cache_url: str | None = Field(None, description="Redis of the cache alone; redis_url when left out")
    redis_timeout: float = Field(0.25, gt=0, description="longest wait for the cache, in seconds")
    cache_ttl: int = Field(86_400, ge=1, description="life of an entry in Redis, in seconds")
    cache_entry_bytes: int = Field(20_000_000, ge=1, description="largest result worth caching")

    # Jobs: requests whose answers are fetched later.
    job_timeout: float = Field(3600.0, gt=0, description="deadline of a job, in seconds")
    job_ttl: int = Field(3600, ge=1, description="life of a finished job and its result, in seconds")
    job_bytes: int = Field(1_000_000_000, ge=1, description="bytes that jobs and their results may hold")
    key_job_bytes: int = Field(250_000_000, ge=1, description="of these, what one key's may hold")
    callback_secret: SecretStr = Field(SecretStr(""), description="signs callbacks; empty: no callbacks")
    callback_networks: str = Field("", description="private networks that callbacks may reach, as CIDRs")

    # Workers elsewhere.
    dispatch: Literal["local", "redis"] = Field("local", description="where pictures are computed")
    lease: float = Field(6.0, gt=0, le=30, description="seconds after which a silent worker's jobs move on")
    worker_port: int = Field(8001, ge=0, le=65535, description="a worker's health and metrics")
    worker_places: int = Field(0, ge=0, description="jobs a worker holds; 0: what its device can batch")

    # Who may call.
    api_keys: SecretStr = Field(SecretStr(""), description="comma-separated; empty: open to everyone")
    admin_key: SecretStr = Field(SecretStr(""), description="allows loading and unloading; empty: off")
    key_concurrency: int = Field(16, ge=1, description="requests a key may have in flight")
    listeners: int = Field(1000, ge=1, description="most events of jobs that are followed at any one time")
    cors_origins: str = Field("", description="comma-separated origins; empty: off")

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"

    @model_validator(mode="after")
    def _redis_is_named(self) -> Settings:
        if self.dispatch == "redis" and not self.redis_url:
            raise ValueError("RETOUCH_DISPATCH=redis needs RETOUCH_REDIS_URL")
        return self
