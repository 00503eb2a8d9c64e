"""The command line of the doctor, shared by `retouch doctor` and `python -m service.doctor`.

The second needs torch, numpy, safetensors, Pillow and OpenCV alone: a bare GPU machine can be asked before
anything is deployed to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from service.doctor import gpu, machine, models
from service.doctor.report import Finding, as_json, as_markdown

REPORT = Path("doctor.md")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--quick", action="store_true", help="on a GPU: without its ten minutes of proofs")
    parser.add_argument("-o", "--output", type=Path, help=f"report to write; default on a GPU: {REPORT}")


def examine(arguments: argparse.Namespace, settings: Any) -> int:
    """What is found, a line as soon as it is; 1 if any of it is at fault."""
    found = []
    for finding in findings(settings, arguments.quick):
        found.append(finding)
        if not arguments.json:
            print(finding.line, flush=True)
    if arguments.json:
        print(as_json(found))
    if output := arguments.output or (REPORT if torch.cuda.is_available() else None):
        output.write_text(as_markdown(found), encoding="utf-8")
    return int(any(finding.grade == "fault" for finding in found))


def findings(settings: Any, quick: bool) -> Iterator[Finding]:
    yield from machine.parts()
    yield from machine.weights(settings)
    if hasattr(settings, "host"):  # the service's settings, not those of a bare machine
        yield from machine.suited(settings)
        yield from machine.limits(settings)
        yield from machine.redis(settings)
    device = machine.device(settings)
    yield device
    if device.grade != "fault":
        yield from models.answers(settings)
    if device.grade != "fault" and torch.cuda.is_available() and settings.device != "cpu" and not quick:
        yield from gpu.examined(settings)


def bare_settings() -> Any:
    """Those that the engine reads, at their defaults, where the service's libraries are not installed."""
    return SimpleNamespace(
        device="auto",
        precision="auto",
        backend="torch",
        weights_dir=None,
        resident_bytes=0,
        max_batch=16,
        max_wait=float("inf"),
    )
