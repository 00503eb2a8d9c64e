"""`python -m tests.openapi` writes the description of the API that is checked in; a test compares it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.dispatchers import EchoDispatcher, app_of

FILE = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"


def described() -> str:
    return json.dumps(app_of(EchoDispatcher()).openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(described(), encoding="utf-8")
