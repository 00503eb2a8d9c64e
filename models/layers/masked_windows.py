"""Attention in windows among known tokens (Li et al., MAT, CVPR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.stylegan import Dense

UNSEEN = -100.0  # what is added to the score of a token that is not to be seen


def windows(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) -> (B, windows, side * side, C)."""
    batch, height, width, channels = x.shape
    parts = x.view(batch, height // side, side, width // side, side, channels).transpose(2, 3)
    return parts.reshape(batch, -1, side * side, channels)


def whole(x: Tensor, side: int, size: int) -> Tensor:
    """The inverse, for square maps."""
    count = size // side
    parts = x.view(-1, count, count, side, side, x.shape[-1]).transpose(2, 3)
    return parts.reshape(-1, size, size, x.shape[-1])


class WindowAttention(nn.Module):
    """Queries and keys are made of tokens of unit length, values of the tokens themselves.

    Odd blocks shift their windows by half; what then lies in one window and is not near sees nothing of it.
    """

    apart: Tensor

    def __init__(self, channels: int, heads: int, size: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.v, self.proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.heads, self.size, self.window = heads, size, window
        self.shift = window // 2 if shifted and window < size else 0
        if self.shift:
            region = torch.zeros(size)
            region[-window:], region[-self.shift :] = 1, 2
            regions = windows((3 * region[:, None] + region)[None, ..., None], window)[0, ..., 0]
            apart = (regions[:, None] != regions[:, :, None]).float() * UNSEEN
            self.register_buffer("apart", apart[:, None], persistent=False)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of tokens (B, H, W, C) and what of them is known (B, H, W, 1); without a mask everything is."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            known = None if known is None else known.roll((-self.shift, -self.shift), (1, 2))
        x = windows(x, self.window)
        evened = F.normalize(x.float(), dim=-1).to(x.dtype)
        scores = self.split(self.q(evened)) @ self.split(self.k(evened)).transpose(-1, -2)
        scores = scores * (x.shape[-1] // self.heads) ** -0.5
        if self.shift:
            scores = scores + self.apart.to(scores.dtype)
        if known is not None:
            parts = windows(known, self.window)
            scores = scores + ((1 - parts) * UNSEEN).to(scores.dtype).transpose(-1, -2)[:, :, None]
            known = whole(parts.amax(2, keepdim=True).expand_as(parts), self.window, self.size)
        mixed = scores.softmax(-1).to(x.dtype) @ self.split(self.v(x))
        x = whole(self.proj(mixed.transpose(2, 3).flatten(3)), self.window, self.size)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
            known = None if known is None else known.roll((self.shift, self.shift), (1, 2))
        return x, known

    def split(self, x: Tensor) -> Tensor:
        """(B, windows, heads, tokens, channels of a head)."""
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(2, 3)


class Block(nn.Module):
    """Tokens joined with what they attended to, and two layers; neither norms nor residual sums."""

    def __init__(self, channels: int, heads: int, size: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.attn = WindowAttention(channels, heads, size, window, shifted)
        self.fuse = Dense(2 * channels, channels)
        self.mlp = nn.Sequential(Dense(channels, 2 * channels), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        attended, known = self.attn(x, known)
        return self.mlp(self.fuse(torch.cat([x, attended], -1))), known
