"""Spans of a request's way, where OpenTelemetry's standard variables ask for them; nothing elsewhere.

FastAPI makes the span of each request and, from those variables, the exporter. Here are the spans of what
happens inside, and what takes a trace through Redis.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current

if TYPE_CHECKING:  # the command line writes logs too, and need not wait for it
    from fastapi.telemetry import TelemetryConfig

here = get_current
tracer = trace.get_tracer("retouch")


def telemetry(service: str, exclude: Callable[[MutableMapping[str, Any]], bool]) -> TelemetryConfig:
    """What an application is made with: traces alone, since metrics and logs have their own ways."""
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    return {
        "auto_configure": True,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": exclude,
    }


def carried() -> dict[str, str]:
    """The trace that this is part of, for whoever goes on with it elsewhere."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


@contextmanager
def continued(headers: Mapping[str, str], name: str, **attributes: str) -> Iterator[None]:
    with tracer.start_as_current_span(name, propagate.extract(headers), trace.SpanKind.CONSUMER, attributes):
        yield


@contextmanager
def stage(name: str, parent: Context) -> Iterator[None]:
    """On whatever thread it is."""
    with tracer.start_as_current_span(name, parent):
        yield


def measured(name: str, parent: Context, seconds: float, ago: float = 0.0, **attributes: str | int) -> None:
    """A stage that took so many seconds and ended so many seconds ago."""
    end = time.time_ns() - int(ago * 1e9)
    tracer.start_span(name, parent, attributes=attributes, start_time=end - int(seconds * 1e9)).end(end)


def ids() -> dict[str, str]:
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }
