"""Bytes to pixels and back: decoding, masks, windows, compositing, encoding. Knows no tensors and no HTTP."""

from service.imaging.compose import paste
from service.imaging.decode import Header, decode, read_header
from service.imaging.encode import encode
from service.imaging.limits import Limits
from service.imaging.masks import decode_mask, decode_sketch, hole_from_alpha, shape_hole
from service.imaging.picture import Picture
from service.imaging.windows import (
    Box,
    HoleWindow,
    Tile,
    core_region,
    cut,
    plan_holes,
    plan_tiles,
    target_size,
)

__all__ = [
    "Box",
    "Header",
    "HoleWindow",
    "Limits",
    "Picture",
    "Tile",
    "core_region",
    "cut",
    "decode",
    "decode_mask",
    "decode_sketch",
    "encode",
    "hole_from_alpha",
    "paste",
    "plan_holes",
    "plan_tiles",
    "read_header",
    "shape_hole",
    "target_size",
]
