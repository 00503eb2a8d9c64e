"""Structured logs on stderr: one line a request, with its id and none of the picture."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar

from service.observability.tracing import ids

request_id: ContextVar[str] = ContextVar("request_id", default="")

FIELDS = "fields"  # `extra={FIELDS: {...}}` on a log call becomes keys of its line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line |= ids() | getattr(record, FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={value}" for key, value in getattr(record, FIELDS, {}).items())
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():7}"
        text = f"{head} {record.getMessage()} {fields}"
        return text.rstrip() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def configure(level: str, style: str) -> None:
    """People at a terminal get text, machines get JSON, unless `style` says otherwise."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore"):  # these would write whole addresses, with the secrets in their queries
        logging.getLogger(name).setLevel(logging.WARNING)
