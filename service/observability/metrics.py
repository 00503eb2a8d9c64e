"""The service's Prometheus metrics, made per application so that two in one process do not collide."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from service import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a cache hit (under a millisecond) to the longest deadline (minutes).
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"retouch_{name}", text, labels, buckets=buckets, registry=registry)

        def of_work(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return histogram(name, text, buckets, "model", "task")

        ProcessCollector(registry=registry)
        self.build = Info("retouch_build", "What runs", registry=registry)
        self.build.info({"version": __version__})
        self.request_seconds = histogram(
            "request_seconds", "Whole request, by route and status", SECONDS, "route", "status"
        )
        self.decode_seconds = of_work("decode_seconds", "Decoding a job's pictures", SECONDS)
        self.queue_seconds = of_work("queue_seconds", "A job's wait for the device", SECONDS)
        self.compute_seconds = of_work("compute_seconds", "One batch on the device", SECONDS)
        self.encode_seconds = of_work("encode_seconds", "Encoding a job's answer", SECONDS)
        self.batch_size = of_work("batch_size", "Windows that ran together", COUNTS)
        self.job_windows = of_work("job_windows", "Windows of a job", COUNTS)
        self.queue_depth = Gauge("retouch_queue_depth", "Windows waiting", registry=registry)
        self.device_bytes = Gauge(
            "retouch_device_bytes",
            "Device memory of a resident model",
            ("model", "device"),
            registry=registry,
        )
        self.eager_shapes = Gauge(
            "retouch_eager_shapes",
            "Shapes of a model's windows that could not be captured into a graph",
            ("model", "device"),
            registry=registry,
        )
        self.dropped = Counter(
            "retouch_dropped", "Windows dropped before compute", ("reason",), registry=registry
        )
        self.rejected = Counter("retouch_rejected", "Requests refused", ("reason",), registry=registry)
        self.cache = Counter("retouch_cache", "Cache look-ups by result", ("result",), registry=registry)
        self.entries = Counter(
            "retouch_entries",
            "Entries of the job streams by what became of them",
            ("event",),
            registry=registry,
        )

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
