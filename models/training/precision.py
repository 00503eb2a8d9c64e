"""The number format that networks learn in."""

from __future__ import annotations

import torch


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs and on processors that compute in it; others imitate it, far slower than float32."""
    able = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=able)
