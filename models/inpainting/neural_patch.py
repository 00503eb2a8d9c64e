"""neural-patch: high-resolution inpainting by multi-scale neural patch synthesis (Yang et al., CVPR 2017).

No pass forward, but a search for each picture: a network draws what should be there, and at three sizes, one
after the other, the hole's pixels are optimised (L-BFGS). Their features in VGG19 are to stay near those of
the drawing, in one layer, and in another to be made of patches of the known part: for every patch of the hole
the most similar one, found once a size.

Ours: the drawing is `structure`'s, since the paper's content network knows one hole alone, in the middle of
its picture; patches come from all that is known, at every place and neither turned nor scaled; known pixels
stay as they are; and each loss is relative to its features' mean square, so that the weights of any VGG19
will do, also of its first layers alone (`content` and `texture` name those that are looked at). A convolution
sees the picture mirrored beyond its border.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.inpainting.structure import Structure
from models.layers.patch_swap import patch_swap
from models.network import Network, SizeRule
from models.registry import architecture

LAYERS = [
    f"relu{block}_{number}" for block, count in enumerate((2, 2, 4, 2), 1) for number in range(1, count + 1)
]
TEXTURE = 5.0  # its loss at 512x512, beside the drawing's; with fewer pixels it counts less
SMOOTH = 0.02  # the loss of neighbours' squared differences
HISTORY = 25  # corrections that L-BFGS keeps


class Vgg19(nn.Module):
    """Its layers up to the deeper of those that are wanted, under their papers' names."""

    def __init__(self, wanted: Sequence[str], width: int) -> None:
        super().__init__()
        self.wanted = wanted
        self.colours = nn.Conv2d(3, 3, 1)
        self.layers = nn.ModuleDict()
        entering = 3
        for name in LAYERS[: 1 + max(map(LAYERS.index, wanted))]:
            leaving = width * 2 ** (int(name[4]) - 1)
            self.layers[name] = nn.Conv2d(entering, leaving, 3)
            entering = leaving

    def forward(self, picture: Tensor) -> list[Tensor]:
        x = self.colours(picture)
        found: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            if name.endswith("_1") and found:
                x = F.max_pool2d(x, 2)
            found[name] = x = F.relu(layer(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return [found[name] for name in self.wanted]


@architecture(
    "neural-patch",
    task="inpaint",
    paper="High-Resolution Image Inpainting using Multi-Scale Neural Patch Synthesis (CVPR 2017)",
    sketch=True,
    exportable=False,
)
class NeuralPatch(Network):
    sides = SizeRule(minimum=96, multiple=16)
    window = 512

    def __init__(
        self,
        content: str = "relu4_2",
        texture: str = "relu4_1",
        width: int = 64,
        steps: int = 100,
        scales: int = 3,
    ) -> None:
        super().__init__()
        self.steps, self.scales = steps, scales
        self.drawing = Structure()
        self.features = Vgg19((content, texture), width)

    def forward(self, image: Tensor, mask: Tensor, sketch: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            drawn = image * (1 - mask) + self.drawing(image, mask, sketch) * mask
        # A search follows gradients, also where whoever asks has no use for them.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(image.device.type, enabled=False),
        ):
            samples = zip(drawn.clone().float(), mask.clone().float(), strict=True)
            found = torch.cat([self.searched(picture[None], hole[None]) for picture, hole in samples])
        return found.to(image.dtype)

    def searched(self, drawn: Tensor, mask: Tensor) -> Tensor:
        """One picture, from its smallest size on."""
        if not mask.any():
            return drawn
        answer: Tensor | None = None
        for factor in (2**number for number in reversed(range(self.scales))):
            size = (drawn.shape[-2] // factor, drawn.shape[-1] // factor)
            hole = F.adaptive_max_pool2d(mask, size) > 0
            given = F.adaptive_avg_pool2d(drawn, size)
            start = given if answer is None else torch.where(hole, enlarged(answer, size), given)
            answer = self.optimised(start, given, hole)
        assert answer is not None
        return answer

    def optimised(self, start: Tensor, drawn: Tensor, hole: Tensor) -> Tensor:
        with torch.no_grad():
            content, _ = self.features(drawn)
            _, own = self.features(start)
            texture = patch_swap(own, F.adaptive_max_pool2d(hole.float(), own.shape[-2:]))
        free = start.clone(memory_format=torch.contiguous_format).requires_grad_()
        weight = TEXTURE * hole[0, 0].numel() / self.window**2
        optimiser = torch.optim.LBFGS(
            [free], max_iter=self.steps, history_size=HISTORY, tolerance_grad=0, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> Tensor:
            optimiser.zero_grad()
            picture = torch.where(hole, free, start)
            near, like = self.features(picture)
            found = relative(near, content) + weight * relative(like, texture) + SMOOTH * roughness(picture)
            total = found * free.numel()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return torch.where(hole, free.detach().clamp(0, 1), start)


def enlarged(picture: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(picture, list(size), mode="bilinear", align_corners=False)


def relative(features: Tensor, wanted: Tensor) -> Tensor:
    return (features - wanted).square().mean() / wanted.square().mean().clamp_min(1e-12)


def roughness(picture: Tensor) -> Tensor:
    return picture.diff(dim=-1).square().mean() + picture.diff(dim=-2).square().mean()
