"""What every machine can be asked: its parts, the weights, Redis, limits, and settings that would suit it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from models import manifest
from models.manifest import WeightsError
from service.doctor.report import Finding, graded
from service.engine.cores import usable_cores
from service.engine.runtimes import make_runtimes
from service.errors import UsageError

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
BYTES_A_PIXEL = 8  # of a picture on its way: decoded, its hole, its windows and its answer
LEAST_DISK = 2_000_000_000
FILES_BESIDE_CONNECTIONS = 128
REDIS_VERSION = 7


def parts() -> Iterator[Finding]:
    memory = memory_limit()
    yield Finding(
        "ok",
        "machine",
        f"{usable_cores()} cores, {memory / 2**30:.1f} GiB, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        {"cores": usable_cores(), "memory": memory},
    )
    if not torch.cuda.is_available():
        seen = shutil.which("nvidia-smi") is not None
        text = "a driver is installed, but this torch computes on processors alone" if seen else "none"
        yield Finding("advice" if seen else "ok", "GPU", text)
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        yield Finding(
            "ok",
            f"GPU {index}",
            f"{facts.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, "
            f"CUDA {torch.version.cuda}, cuDNN {cudnn}, "
            f"capability {facts.major}.{facts.minor}",
        )


def memory_limit() -> int:
    """Of the container, or of the machine."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return whole


def weights(settings: Any) -> Iterator[Finding]:
    try:
        entries = manifest.installed(settings.weights_dir)
    except (WeightsError, ValueError, TypeError) as error:
        yield Finding("fault", "weights", f"the manifest cannot be read: {error}")
        return
    broken = 0
    for name, entry in entries.items():
        try:
            manifest.read_weights(entry)
        except WeightsError as error:
            broken += 1
            yield Finding("fault", f"weights of {name}", str(error))
    yield graded(len(entries) > broken, "weights", f"{len(entries) - broken} models are as the manifest says")


def device(settings: Any) -> Finding:
    try:
        found = ", ".join(runtime.device for runtime in make_runtimes(settings))
    except (UsageError, ImportError) as error:
        return Finding("fault", "device", str(error))
    return Finding("ok", "device", f"{settings.device} means {found}, computed by {settings.backend}")


def limits(settings: Any) -> Iterator[Finding]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + FILES_BESIDE_CONNECTIONS
    if files not in (resource.RLIM_INFINITY, -1) and files < wanted:
        yield Finding(
            "advice", "open files", f"{files} are allowed, {wanted} wanted (RETOUCH_MAX_CONNECTIONS)"
        )
    else:
        yield Finding("ok", "open files", "as many as RETOUCH_MAX_CONNECTIONS may want")
    held = settings.pixel_budget * BYTES_A_PIXEL + settings.cache_bytes + settings.upload_bytes
    held += 0 if settings.dispatch == "redis" else settings.job_bytes
    yield Finding(
        "ok" if held < memory_limit() else "advice",
        "memory",
        f"pictures, cache, uploads, jobs may come to {held / 2**30:.1f} of {memory_limit() / 2**30:.1f} GiB"
        " (RETOUCH_PIXEL_BUDGET, _CACHE_BYTES, _UPLOAD_BYTES, _JOB_BYTES)",
    )
    for folder in {settings.weights_dir or manifest.SHIPPED, Path(os.environ.get("TMPDIR", "/tmp"))}:
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:.1f} GB free in {folder}"
        yield Finding("ok" if free > LEAST_DISK else "advice", "disk", text)


def suited(settings: Any) -> Iterator[Finding]:
    """Settings that work, and would do better otherwise."""
    if settings.precision == "bfloat16" and settings.device != "cpu":
        yield Finding(
            "advice", "RETOUCH_PRECISION", "bfloat16 changes up to 19 % of bytes; float16 is as fast"
        )
    if settings.device == "cpu" and torch.cuda.is_available():
        yield Finding("advice", "RETOUCH_DEVICE", "is cpu, and there is a GPU")
    if settings.codec_threads > usable_cores():
        yield Finding(
            "advice", "RETOUCH_CODEC_THREADS", f"{settings.codec_threads} threads for {usable_cores()} cores"
        )
    outside = settings.host not in ("127.0.0.1", "::1", "localhost")
    if outside and not settings.api_keys.get_secret_value():
        yield Finding("advice", "RETOUCH_API_KEYS", f"is empty: whoever reaches {settings.host} may call")


def redis(settings: Any) -> Iterator[Finding]:
    from redis import Redis
    from redis.exceptions import RedisError

    for name, url in (("RETOUCH_REDIS_URL", settings.redis_url), ("RETOUCH_CACHE_URL", settings.cache_url)):
        if not url:
            continue
        try:
            with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
                version = client.info("server")["redis_version"]
                policy = client.info("memory").get("maxmemory_policy", "noeviction")
        except RedisError as error:
            yield Finding("fault", name, f"cannot be reached: {error}")
            continue
        new = int(version.partition(".")[0]) >= REDIS_VERSION
        yield graded(new, name, f"Redis {version}" + ("" if new else f"; {REDIS_VERSION} or later is needed"))
        if name == "RETOUCH_REDIS_URL" and policy != "noeviction":
            yield Finding("fault", name, f"evicts ({policy}): works would be lost; set noeviction")
