"""Numbers drawn from seeds: the same on every device and in every batch, and a seed may be a tensor.

A device's own generator would draw other numbers than a processor's, one for a whole batch, and could not be
captured. Here a draw is a keyed permutation of its index, rounds of fifth powers modulo a prime as in the
cipher MiMC: exact integers, which any runtime has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PRIME = 2**31 - 1  # the fifth power is a permutation modulo this one, and its products fit 64 bits
ROUNDS = (0x3C6EF372, 0x1F83D9AB, 0x5BE0CD19, 0x2B3E6C1F, 0x517CC1B7)  # any numbers will do

Seed = int | Tensor


def seeds_of(seed: Seed, like: Tensor, learning: bool = False) -> Tensor:
    """(B,): one for each sample of `like`, and any where a network learns.

    Seeds that are equal modulo 2^31 - 1 draw alike.
    """
    if learning:
        return torch.randint(PRIME, like.shape[:1], device=like.device)
    if isinstance(seed, int):
        return torch.full((like.shape[0],), seed % PRIME, dtype=torch.long, device=like.device)
    return seed.long() % PRIME


def uniform(seeds: Tensor, stream: int, *shape: int) -> Tensor:
    """(B, *shape) in 0 < x <= 1; each stream of a seed is a draw of its own."""
    x = torch.arange(1, 1 + math.prod(shape), device=seeds.device)[None]
    key = seeds[:, None]
    for number in ROUNDS:
        x = (x + key + number * (stream + 1)) % PRIME
        square = x * x % PRIME
        x = square * square % PRIME * x % PRIME
    return ((x // 128).float() + 0.5).reshape(-1, *shape) / 2**24


def normal(seeds: Tensor, stream: int, *shape: int) -> Tensor:
    """(B, *shape), standard normal (Box and Muller)."""
    radius, angle = (uniform(seeds, 2 * stream + part, *shape) for part in (0, 1))
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
