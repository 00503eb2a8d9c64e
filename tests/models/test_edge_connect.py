"""EdgeConnect: its edges, its two files, and the caller's sketch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import models
from models.checkpoints import CheckpointError, importers, load_public
from models.layers.canny import canny


def disc(side: int, level: float = 0.8) -> Tensor:
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (row - side / 2).square() + (column - side / 2).square() < (side / 3) ** 2
    return (0.1 + (level - 0.1) * inside.float())[None, None]


def test_edges_lie_where_another_detector_has_them() -> None:
    side = 96
    picture = disc(side)
    ours = canny(picture, torch.zeros_like(picture))[0, 0].numpy()
    gray = (picture[0, 0].numpy() * 255).astype(np.uint8)
    theirs = cv2.Canny(cv2.GaussianBlur(gray, (17, 17), 2), 25, 50, L2gradient=True) > 0
    near = cv2.dilate(theirs.astype(np.uint8), np.ones((3, 3))) > 0
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.15)
    assert near[ours > 0].all()


def test_a_hole_is_no_edge_and_is_not_seen() -> None:
    picture, hole = disc(64), torch.zeros(1, 1, 64, 64)
    hole[..., 20:40, :30] = 1
    edges = canny(picture, hole)
    assert edges.sum() > 0
    torch.testing.assert_close(canny(picture * (1 - hole) + hole, hole), edges, rtol=0, atol=0)
    around = nn.functional.max_pool2d(hole, 3, 1, 1)
    assert not (edges * around).any()
    assert not canny(torch.full_like(picture, 0.5), hole).any()


def test_a_weak_edge_lives_by_a_strong_one() -> None:
    """The step of a wedge weakens from top to bottom; past the weak threshold there is no edge."""
    fall = torch.linspace(0.4, 0, 64)[:, None]
    wedge = torch.where(torch.arange(64)[None] < 32, 0.0, fall)[None, None]
    lonely = wedge.clamp(max=0.12)
    nothing = torch.zeros_like(wedge)
    lengths = [int(canny(picture, nothing).sum()) for picture in (wedge, lonely)]
    assert lengths[0] > 48  # the strong part alone is 44 rows, less one at the border
    assert lengths[1] == 0


def small() -> nn.Module:
    torch.manual_seed(4)
    return models.create("edge-connect", width=4, blocks=2).eval()


@torch.inference_mode()
def test_a_sketch_counts_inside_the_hole_only() -> None:
    net, image = small(), disc(32).expand(1, 3, 32, 32)
    mask, sketch = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    plain = net(image, mask)
    sketch[..., 2, :] = 1
    assert torch.equal(net(image, mask, sketch), plain)
    sketch[..., 16, 10:20] = 1
    assert not torch.equal(net(image, mask, sketch), plain)


def files() -> tuple[dict[str, object], dict[str, object]]:
    public = importers()["edge-connect"].to_public(small())
    states = [
        {key.partition(".")[2]: value for key, value in public.items() if key.startswith(name)}
        for name in ("edge.", "inpaint.")
    ]
    return {"iteration": 1, "generator": states[0]}, {"iteration": 1, "generator": states[1]}


@torch.inference_mode()
def test_two_files_make_a_network_in_either_order() -> None:
    image, mask = disc(16).expand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 4:9] = 1
    edge, inpaint = files()
    truth = small()(image, mask)
    for first, second in ((edge, inpaint), (inpaint, edge)):
        again = load_public("edge-connect", first, companion=second)
        torch.testing.assert_close(again(image, mask), truth, rtol=1e-5, atol=1e-5)


def test_one_file_is_not_enough() -> None:
    edge, inpaint = files()
    with pytest.raises(CheckpointError, match="inpaint generator's is missing"):
        load_public("edge-connect", edge)
    with pytest.raises(CheckpointError, match="edge generator's is missing"):
        load_public("edge-connect", inpaint)
