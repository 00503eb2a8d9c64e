"""The overlays as a cluster gets them: rendered by `make manifests`, checked in under k8s/rendered.

A review then shows what a change does to the objects themselves, and tests read them without kubectl. Each
file says from which sources it was made, so that a stale one is found.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parents[2] / "k8s"
RENDERED = K8S / "rendered"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())

Object = dict[str, Any]


def digest() -> str:
    """Of all that is rendered from."""
    found = hashlib.sha256()
    for path in sorted(K8S.rglob("*")):
        if path.is_file() and RENDERED not in path.parents:
            found.update(path.relative_to(K8S).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def header() -> str:
    return f"# Made by `make manifests`; do not edit. Sources: sha256 {digest()}\n"


def read(overlay: str) -> list[Object]:
    text = (RENDERED / f"{overlay}.yaml").read_text(encoding="utf-8")
    assert text.startswith(header()), "k8s/ has changed: run `make manifests`"
    return [document for document in yaml.safe_load_all(text) if document]


def render() -> None:
    RENDERED.mkdir(exist_ok=True)
    for overlay in OVERLAYS:
        command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (RENDERED / f"{overlay}.yaml").write_text(header() + text, encoding="utf-8")


if __name__ == "__main__":
    render()
