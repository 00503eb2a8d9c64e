"""Patch-swap (Song et al., ECCV 2018): feature patches in the hole replaced by their likes outside it.

Every 3x3 patch with something missing finds, among all patches without, the one of largest normalised
cross-correlation; where patches overlap, what they bring is averaged. The search is exhaustive: a feature
map is small. `patch_field` searches pictures, which are not, by chance and propagation; on patches of unit
length its squared distance is 2 - 2 x this correlation, so both ask the same question.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.contextual_attention import BAND_VALUES

SIZE = 3


def patch_swap(features: Tensor, hole: Tensor, looks: Tensor | None = None) -> Tensor:
    """`features` (B, C, h, w) with the cells of `hole` (B, 1, h, w) replaced.

    `looks`, of the same size, is what patches are compared by: the features themselves, unless it is given.
    A sample without any complete patch stays as it is.
    """
    height, width = features.shape[-2:]
    touched = F.max_pool2d(hole, SIZE, 1).flatten(1) > 0
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        patches = F.unfold((features if looks is None else looks).float(), SIZE)
        source = most_alike(F.normalize(patches, dim=1), touched)
    total, covering = torch.zeros_like(features), torch.zeros_like(hole)
    values = features.flatten(2)
    rows, columns = height - SIZE + 1, width - SIZE + 1
    # From a patch's number, counted over the places a patch can have, to its first cell's.
    first = source // columns * width + source % columns
    for down in range(SIZE):
        for across in range(SIZE):
            cells = (first + down * width + across)[:, None].expand(-1, values.shape[1], -1)
            brought = values.gather(2, cells).reshape(*features.shape[:2], rows, columns)
            margin = (across, SIZE - 1 - across, down, SIZE - 1 - down)
            total = total + F.pad(brought, margin)
            covering = covering + F.pad(torch.ones_like(brought[:, :1]), margin)
    possible = ~touched.all(1)[:, None, None, None]
    return torch.where((hole > 0) & possible, total / covering, features)


def most_alike(patches: Tensor, touched: Tensor) -> Tensor:
    """(B, L): for each `touched` patch, of unit length, the number of the one among the others most like it.

    Patches (B, D, L) that are not touched have no use for an answer, and what they get is of no meaning.
    """
    if torch.onnx.is_in_onnx_export():  # shapes must not follow the data, nor a loop the size
        return (patches.transpose(1, 2) @ patches - 4.0 * touched[:, None].to(patches.dtype)).argmax(2)
    answer = torch.zeros(touched.shape, dtype=torch.long, device=touched.device)
    for sample, (own, missing) in enumerate(zip(patches, touched, strict=True)):
        asking, bank = missing.nonzero().flatten(), (~missing).nonzero().flatten()
        if not len(bank):
            continue
        known = own[:, bank]
        for some in asking.split(max(1, BAND_VALUES // len(bank))):
            answer[sample, some] = bank[(own[:, some].T @ known).argmax(1)]
    return answer
