"""Time and peak memory of every network at its window: torch, compiled, bfloat16 and ONNX Runtime.

    python bench/networks.py [--side 256] [--network deepfill-v2] [--threads 1] [--form compiled]

Networks run with channels last, as the service runs them. Weights are random, which costs the same. Each row
is measured in a process of its own, so that memory is its own too. The last lines compare DeepFill v2 with
the plain formulation of its public code: channels first, pixels repeated before a convolution, a sample's
patches as filters of a convolution.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F

import models
from models import registry
from models.export import to_onnx
from models.layers.contextual_attention import pick
from models.layers.gated import GatedConv, PaddedConv

LAST = torch.channels_last
FORMS = ("torch", "compiled", "bfloat16", "onnxruntime")
APART = {"neural-patch", "spandrel"}  # one takes many minutes, the other is nothing without a file


def best(call: Callable[[], Any], repeats: int = 2) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def inputs(task: str, side: int) -> tuple[torch.Tensor, ...]:
    image = torch.rand(1, 3, side, side)
    if task == "upscale":
        return (image,)
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : 3 * side // 4] = 1
    return image, mask


def one(name: str, form: str, side: int) -> dict[str, float]:
    """Best seconds, and megabytes that the process grew by, of one network in one form."""
    architecture = registry.get(name)
    net: Any = models.create(name).eval().to(memory_format=LAST)
    example = tuple(tensor.contiguous(memory_format=LAST) for tensor in inputs(architecture.task, side))
    if form == "compiled":
        net = torch.compile(net)
    run: Callable[[], Any] = lambda: net(*example)  # noqa: E731
    if architecture.task == "upscale":
        run = lambda: net(example[0], 2.7)  # noqa: E731
    if form == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        small = inputs("inpaint", net.sides.maximum or max(net.minimum, 2 * net.multiple))
        content = to_onnx(net, small, ["image", "mask"])
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        feed = {"image": example[0].numpy(), "mask": example[1].numpy()}
        run = lambda: session.run(None, feed)  # noqa: E731
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=form == "bfloat16"):
        seconds = best(run)
    return {"seconds": seconds, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def plain(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Contextual attention as the public code states it, one sample at a time."""
    height, width = features.shape[-2] // 2, features.shape[-1] // 2
    count, identity = height * width, torch.eye(3)[None, None]
    answers = []
    for i in range(features.shape[0]):
        full = features[i : i + 1]
        half = pick(full, (height, width))
        filters = F.unfold(half, 3, padding=1)[0].T.reshape(count, -1, 3, 3)
        filters = filters / filters.flatten(1).norm(dim=1).clamp(min=1e-4)[:, None, None, None]
        scores = F.conv2d(half, filters, padding=1)[0].flatten(1).T.reshape(1, 1, count, count)
        for _ in range(2):
            scores = F.conv2d(scores, identity, padding=1)
            scores = scores.view(height, width, height, width).permute(1, 0, 3, 2)
            scores = scores.reshape(1, 1, count, count)
        small = pick(pick(mask[i : i + 1], (full.shape[-2], full.shape[-1])), (height, width))
        usable = (F.max_pool2d(small, 3, 1, 1) == 0).float().flatten()
        weights = torch.softmax(scores[0, 0] * usable * 10, 1) * usable
        pieces = F.unfold(full, 4, stride=2, padding=1)[0].T.reshape(count, -1, 4, 4)
        answers.append(
            F.conv_transpose2d(weights.T.view(1, -1, height, width), pieces, stride=2, padding=1) / 4
        )
    return torch.cat(answers)


@contextmanager
def public_layers(attention: Any) -> Iterator[None]:
    """DeepFill's layers as the public code has them, for as long as the block lasts."""
    ours = PaddedConv.doubled, GatedConv.activated
    attention.forward = plain
    PaddedConv.doubled = lambda self, x: self(F.interpolate(x, scale_factor=2.0))  # type: ignore[method-assign]
    GatedConv.activated = gated  # type: ignore[method-assign]
    try:
        yield
    finally:
        PaddedConv.doubled, GatedConv.activated = ours  # type: ignore[method-assign]
        del attention.forward


def gated(self: Any, x: torch.Tensor) -> torch.Tensor:
    values, gates = x.chunk(2, 1)
    return self.activation(values) * torch.sigmoid(gates)


def attention(side: int) -> str:
    net: Any = models.create("deepfill-v2").eval()
    picture, mask = inputs("inpaint", side)
    features = torch.randn(1, 96, side // 4, side // 4)
    layer = net.refined.attention
    with torch.inference_mode():
        error = (layer(features, mask) - plain(features, mask)).abs().max() / features.std()
        ours, theirs = best(lambda: layer(features, mask)), best(lambda: plain(features, mask))
        with public_layers(layer):
            whole_theirs = best(lambda: net(picture, mask))
        net, picture = net.to(memory_format=LAST), picture.contiguous(memory_format=LAST)
        whole_ours = best(lambda: net(picture, mask))
    return (
        f"\nDeepFill v2's attention at {side}: ours {ours:.3f} s, plain {theirs:.3f} s "
        f"({ours / theirs:.2f} of it), at most {error:.1e} of the deviation apart.\n"
        f"The whole network: ours {whole_ours:.3f} s, plain {whole_theirs:.3f} s "
        f"({whole_ours / whole_theirs:.2f} of it).\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, help="default: each network's window")
    parser.add_argument("--network", action="append", help="may be repeated; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--form", choices=FORMS, action="append", help="may be repeated; default: all")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "FORM"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.one:
        name, form = asked.one
        print(json.dumps(one(name, form, asked.side)))
        return
    forms = asked.form or FORMS
    print("| network | side | parameters | " + " | ".join(f"{form} s / MB" for form in forms) + " |")
    print("| --- " * (3 + len(forms)) + "|")
    for name in asked.network or sorted(set(models.architectures()) - APART):
        side = asked.side or registry.get(name).build.window
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in models.create(name).parameters())
        cells = [measured(name, form, side, asked.threads) for form in forms]
        print(f"| {name} | {side} | {count / 1e6:.2f} M | {' | '.join(cells)} |", flush=True)
    if not asked.network or "deepfill-v2" in asked.network:
        print(attention(asked.side or 512))


def measured(name: str, form: str, side: int, threads: int) -> str:
    architecture = registry.get(name)
    if form == "onnxruntime" and (architecture.task == "upscale" or not architecture.exportable):
        return "-"  # only the upscalers' features are exported, and algorithms are not
    if form == "bfloat16" and not architecture.exportable:
        return "-"
    if form == "compiled" and (
        architecture.task == "upscale" or not architecture.exportable or name == "patch-swap"
    ):
        return "-"  # rendering and searches follow their data
    command = [sys.executable, __file__, "--one", name, form, "--side", str(side), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return "failed: " + done.stderr.strip().splitlines()[-1][:80]
    answer = json.loads(done.stdout.splitlines()[-1])
    return f"{answer['seconds']:.2f} / {answer['mb']:.0f}"


if __name__ == "__main__":
    main()
