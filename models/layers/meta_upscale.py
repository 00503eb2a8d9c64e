"""Meta-Upscale (Hu et al., CVPR 2019): a small network predicts the filter of every enlarged pixel.

The enlarged pixel (i, j) is the 3x3 window of features at (floor(i / r), floor(j / r)) times weights
predicted from v = (row offset, column offset, 1 / r). Written out, that is 27 C numbers a pixel. Three equal
forms avoid them:

- `phases`: for r = p/q the weights repeat every p pixels. Predict them once for each pair of a row and a
  column phase, then run one strided convolution for each position of the features within the period q.
- `factored`: the prediction's last layer is linear in the hidden values h(v), so the pixel is
  sum_k h_k(v) (A_k * F): fixed convolutions, mixed by h. Works at any factor; row tiles bound its memory.
  A hidden unit whose sign is the same at all offsets is linear in them, or nothing: all such units together
  cost three convolutions, so that about half of them remain.
- `direct`: the formula itself, in chunks; cheapest where only a few pixels are wanted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import bicubic
from models.layers.placement import Axis

# Multiply-adds that cost as much time as the overhead of one convolution and of placing its answers: 0.15 to
# 0.3 ms, measured on one and two CPU cores. Decides when phases are too many.
CALL_COST = 4_000_000
# On a GPU some ten launches of 7 us, at some 75 T multiply-adds a second. Computed, not measured.
DEVICE_CALL_COST = 5_000_000_000
BENT = 0.5  # share of the hidden units that `factored` keeps, as found in fresh and in trained networks
TRAINING_CALLS = 4  # most strided convolutions that are still cheap to differentiate
CHUNK = 8192  # pixels whose weights `direct` holds at once
TILE_VALUES = 1 << 22  # values of mixed maps that `factored` holds at once: what a CPU's cache can hold
DEVICE_TILE_VALUES = 1 << 27  # the same on a GPU, where each strip costs more than its memory


class MetaUpscale(nn.Module):
    def __init__(self, channels: int, hidden: int = 256, colours: int = 3) -> None:
        super().__init__()
        self.channels, self.hidden, self.colours = channels, hidden, colours
        self.enter = nn.Linear(3, hidden)
        self.leave = nn.Linear(hidden, channels * 9 * colours)

    def forward(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        """The pixels rows x columns of the enlarged picture; `features` begin at its small pixel `origin`."""
        form = self.cheapest(features, rows, columns)
        render = {"phases": self.phases, "factored": self.factored, "direct": self.direct}[form]
        return render(features, rows, columns, origin, inverse)

    def cheapest(self, features: Tensor, rows: Axis, columns: Axis) -> str:
        """The form with the fewest multiply-adds, calls included."""
        small, large = features.shape[-2] * features.shape[-1], rows.count * columns.count
        window = self.channels * 9 * self.colours
        pairs = min(rows.period, rows.count) * min(columns.period, columns.count)
        calls = min(rows.step, rows.count) * min(columns.step, columns.count)
        call = DEVICE_CALL_COST if features.is_cuda else CALL_COST
        cost = {
            "phases": pairs * self.hidden * window + large * window + calls * call,
            "factored": (BENT * self.hidden + 3) * (small * window + large * self.colours),
            "direct": large * (self.hidden + 1) * window,
        }
        if torch.is_grad_enabled() and calls > TRAINING_CALLS:
            del cost["phases"]  # the gradient of each call is as large as all features
        return min(cost, key=lambda form: cost[form])

    def hidden_values(self, rows: Tensor, columns: Tensor, inverse: float) -> Tensor:
        """h(v) for every pair of a row offset and a column offset: (rows, columns, hidden)."""
        weight = self.enter.weight
        vertical = rows[:, None] * weight[:, 0]
        horizontal = columns[:, None] * weight[:, 1] + (inverse * weight[:, 2] + self.enter.bias)
        # Offsets are exact fractions: rounded to half precision only once they are weighted.
        return F.relu(vertical[:, None] + horizontal[None]).to(weight.dtype)

    def filters(self, predicted: Tensor) -> Tensor:
        """Predicted vectors (n, 27 C) as convolution weights (n * colours, C, 3, 3)."""
        shaped = predicted.view(-1, self.channels, 3, 3, self.colours)
        return shaped.permute(0, 4, 1, 2, 3).reshape(-1, self.channels, 3, 3)

    def phases(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        batch, device = features.shape[0], features.device
        padded = F.pad(features, (1, 1, 1, 1))
        answer = features.new_zeros(batch, self.colours, rows.count, columns.count)
        row_groups, column_groups = groups(rows), groups(columns)
        for first_row, row_starts in row_groups.items():
            _, down = places(Axis(rows.scale, row_starts[0], len(row_starts)), device)
            for first_column, column_starts in column_groups.items():
                _, across = places(Axis(columns.scale, column_starts[0], len(column_starts)), device)
                predicted = self.leave(self.hidden_values(down, across, inverse).flatten(0, 1))
                top, left = first_row - origin[0], first_column - origin[1]
                kernel = self.filters(predicted.to(padded.dtype))
                grid = F.conv2d(padded[:, :, top:, left:], kernel, stride=(rows.step, columns.step))
                grid = grid.view(batch, len(row_starts), len(column_starts), self.colours, *grid.shape[-2:])
                for a, row in enumerate(row_starts):
                    for b, column in enumerate(column_starts):
                        target = answer[
                            :, :, row - rows.start :: rows.period, column - columns.start :: columns.period
                        ]
                        target.copy_(grid[:, a, b, :, : target.shape[-2], : target.shape[-1]])
        return answer

    def factored(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        device = features.device
        bent, straight, level = self.units(inverse)
        down, row_offsets = places(rows, device)
        across, column_offsets = places(columns, device)
        last = self.leave.weight.t()
        slopes = torch.cat([self.enter.weight[straight, :2], level[straight, None]], 1)
        linear = slopes.t() @ last[straight]
        kernel = self.filters(torch.cat([last[bent], linear[:2], linear[2:] + self.leave.bias]))
        kernel = kernel.to(features.dtype)
        padded = F.pad(features, (1, 1, 1, 1))
        values = kernel.shape[0]
        limit = TILE_VALUES if device.type == "cpu" else DEVICE_TILE_VALUES
        tile = max(1, limit // (values * columns.count * features.shape[0]))
        strips = []
        for start in range(0, rows.count, tile):
            stop = min(rows.count, start + tile)
            first, last_read = (rows.source(rows.start + row) for row in (start, stop - 1))
            maps = F.conv2d(padded[:, :, first - origin[0] : last_read - origin[0] + 3], kernel)
            read = maps.index_select(3, across - origin[1]).index_select(2, down[start:stop] - first)
            read = read.view(read.shape[0], -1, self.colours, *read.shape[-2:])
            mix = self.mixture(row_offsets[start:stop], column_offsets, inverse, bent).to(read.dtype)
            strips.append((read * mix[:, None]).sum(1))
        return torch.cat(strips, 2)

    def mixture(self, rows: Tensor, columns: Tensor, inverse: float, bent: Tensor) -> Tensor:
        """What `factored` mixes maps by: bent units, row offset, column offset, one: (n, rows, columns)."""
        hidden = self.hidden_values(rows, columns, inverse)[..., bent].permute(2, 0, 1)
        size = hidden.shape[1:]
        one = torch.ones(size, device=rows.device)
        return torch.cat([hidden, torch.stack([rows[:, None] * one, columns * one, one])])

    def units(self, inverse: float) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of the hidden units that bend, and that are linear, over the offsets; each one's level."""
        weight = self.enter.weight
        level = inverse * weight[:, 2] + self.enter.bias
        lowest = level + weight[:, :2].clamp(max=0).sum(1)
        highest = level + weight[:, :2].clamp(min=0).sum(1)
        if weight.device.type != "cpu":
            # Finding them would make the host wait for the device, longer than that computes all of them.
            every = torch.arange(self.hidden, device=weight.device)
            return every, every[:0], level
        bent = (lowest < 0) & (highest > 0)
        return bent.nonzero()[:, 0], (lowest >= 0).nonzero()[:, 0], level

    def direct(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        device = features.device
        width = features.shape[-1]
        down, row_offsets = places(rows, device)
        across, column_offsets = places(columns, device)
        position = ((down - origin[0])[:, None] * width + across - origin[1]).flatten()
        hidden = self.hidden_values(row_offsets, column_offsets, inverse).flatten(0, 1)
        windows = F.unfold(features, 3, padding=1)
        pixels = []
        for start in range(0, len(position), CHUNK):
            weight = self.leave(hidden[start : start + CHUNK]).view(-1, self.channels * 9, self.colours)
            window = windows.index_select(2, position[start : start + CHUNK])
            pixels.append(torch.einsum("bcn,nck->bkn", window, weight.to(window.dtype)))
        return torch.cat(pixels, 2).view(-1, self.colours, rows.count, columns.count)


class OnBicubic(MetaUpscale):
    """Predicts only what bicubic enlargement lacks of the small picture, the features' last three channels.

    Starting from bicubic, training spends its time on detail, and far beyond the scales it has seen the
    answer falls back to bicubic and not to noise.
    """

    def __init__(self, channels: int, hidden: int = 256, colours: int = 3) -> None:
        super().__init__(channels, hidden, colours)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, features: Tensor, rows: Axis, columns: Axis, origin: tuple[int, int], inverse: float
    ) -> Tensor:
        deep, image = features[:, : self.channels], features[:, self.channels :]
        return super().forward(deep, rows, columns, origin, inverse) + bicubic.resize(
            image, rows, columns, origin
        )


def places(axis: Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """`Axis.source` and `Axis.offset` of all its pixels, counted on the device: the host sends nothing."""
    numerators = torch.arange(axis.start, axis.start + axis.count, device=device) * axis.step
    return numerators // axis.period, (numerators % axis.period).double().div_(axis.period).float()


def groups(axis: Axis) -> dict[int, list[int]]:
    """First pixel of each phase on `axis`, gathered by the small pixel that it reads.

    Phases whose first pixels read the same small pixel read the same ones all along, one period apart, so one
    strided convolution serves them all.
    """
    found: dict[int, list[int]] = {}
    for start in range(axis.start, axis.start + min(axis.period, axis.count)):
        found.setdefault(axis.source(start), []).append(start)
    return found
