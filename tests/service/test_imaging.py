"""Bytes to pixels and back, and nothing worse than a Problem whatever the bytes."""

from __future__ import annotations

import io
import random
import struct
import zlib
from fractions import Fraction
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from service.errors import Problem, Unprocessable, UnsupportedImage
from service.imaging import (
    Box,
    Limits,
    Picture,
    core_region,
    cut,
    decode,
    decode_mask,
    decode_sketch,
    encode,
    paste,
    plan_holes,
    plan_tiles,
    png,
    read_header,
    shape_hole,
    target_size,
)
from service.imaging.encode import AVIF_PIXELS
from service.work import MEDIA_TYPES
from tests.service.hostile import FORMATS, bombs, corrupt, seeds

LIMITS = Limits(max_pixels=1_000_000, max_side=20_000)
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opencv_png(stored: np.ndarray) -> bytes:
    return cv2.imencode(".png", stored)[1].tobytes()


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_lossless_colour_is_exact(format):
    picture = decode(saved(Image.fromarray(COLOUR), format), LIMITS)
    assert np.array_equal(picture.pixels, COLOUR)
    assert picture.alpha is None
    assert not picture.gray


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_with_its_size(format):
    data = saved(Image.fromarray(COLOUR), format)
    header = read_header(data, LIMITS)
    assert (header.height, header.width, header.bits) == (13, 17, 8)
    assert decode(data, LIMITS).size == (13, 17)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "PA", "CMYK"])
def test_every_mode_becomes_what_pillow_shows(mode):
    source = Image.fromarray(COLOUR).convert("RGBA")
    source.putalpha(Image.fromarray(COLOUR[..., 0]))
    image = source.convert("P") if mode == "PA" else source.convert("RGB").convert(mode)
    if mode in ("LA", "RGBA"):
        image = source.convert(mode)
    data = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    picture = decode(data, LIMITS)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA" if picture.alpha is not None else "RGB"))
    assert np.array_equal(picture.pixels, shown[..., :3])
    assert picture.gray == (mode in ("1", "L", "LA"))
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA", "PA"))
    if picture.alpha is not None:
        assert np.array_equal(picture.alpha, shown[..., 3])


def plain_files() -> dict[str, bytes]:
    """Of the kinds that Pillow is not asked for, and of some that are nearly so."""
    colour = Image.fromarray(cv2.resize(COLOUR, (61, 43), interpolation=cv2.INTER_CUBIC))
    gray = colour.convert("L")
    files = {"gray": saved(gray)}
    for bits in (1, 2, 4):
        files[f"{bits} bits"] = png_of_bits(gray, bits)
    for quality, subsampling in ((30, 2), (75, 1), (95, 0)):
        options = {"quality": quality, "subsampling": subsampling, "progressive": quality == 75}
        files[f"JPEG {quality}"] = saved(colour, "JPEG", **options)
    files["gray JPEG"] = saved(gray, "JPEG")
    files["animated"] = saved(colour, save_all=True, append_images=[gray.convert("RGB")], default_image=True)
    return files


def png_of_bits(image: Image.Image, bits: int) -> bytes:
    """Pillow writes gray of eight bits alone."""
    values = np.asarray(image) >> (8 - bits)
    flags = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(image.height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in flags)
    head = struct.pack(">IIBBBBB", image.width, image.height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png.SIGNATURE + b"".join(png.chunk(*each) for each in chunks)


@pytest.mark.parametrize("kind", plain_files())
def test_plain_kinds_are_what_pillow_shows(kind):
    data = plain_files()[kind]
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data, LIMITS).pixels, shown)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_file_that_was_cut_off_is_refused(format):
    data = saved(Image.fromarray(cv2.resize(COLOUR, (200, 150))), format)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(Unprocessable):
            decode(data[: int(share * len(data))], LIMITS)


def test_sixteen_bits_survive_there_and_back():
    deep = RNG.integers(0, 65536, (9, 11, 4), dtype=np.uint16)
    for stored in (deep[..., 0], deep[..., :3], deep):
        picture = decode(opencv_png(stored), LIMITS)
        assert picture.bits == 16
        assert read_header(opencv_png(stored), LIMITS).bits == 16
        again = cv2.imdecode(np.frombuffer(encode(picture, "png"), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(again, stored)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(1, 3000),
    st.integers(0, 2**32 - 1),
)
def test_any_reader_finds_the_pixels_that_were_written(height, width, channels, dtype, band, seed):
    size = (height, width, channels)
    stored = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    with mock.patch.object(png, "BAND", band):
        content = png.write_png(stored)
    read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # OpenCV's
    assert read.dtype == dtype
    assert np.array_equal(read.reshape(*size[:2], -1), stored[..., order])
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if dtype == np.uint8 or channels == 1:
            assert np.array_equal(np.asarray(image).reshape(size), stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_orientation_is_applied_once(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(COLOUR), format, exif=exif.tobytes())
    from PIL import ImageOps

    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    picture = decode(data, LIMITS, keep_metadata=True)
    assert np.array_equal(picture.pixels, shown)
    header = read_header(data, LIMITS)
    assert (header.height, header.width) == picture.size
    again = Image.open(io.BytesIO(encode(picture, "jpeg")))
    assert again.getexif().get(0x0112, 1) == 1


def test_the_profile_is_kept_and_other_metadata_only_on_request():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    data = saved(Image.fromarray(COLOUR), "JPEG", icc_profile=profile, exif=exif)
    for keep in (False, True):
        picture = decode(data, LIMITS, keep_metadata=keep)
        for format in MEDIA_TYPES:
            again = Image.open(io.BytesIO(encode(picture, format)))
            assert again.info["icc_profile"] == profile
            assert (again.getexif().get(0x010F) == "maker") == keep


def test_integers_and_floats_of_32_bits_are_refused():
    for image in (Image.fromarray(COLOUR[..., 0].astype(np.float32)), Image.new("I", (3, 3), 70_000)):
        with pytest.raises(UnsupportedImage):
            decode(saved(image, "TIFF"), LIMITS)


def test_bombs_are_refused():
    passed = 0
    for data in bombs():
        try:
            decode(data, Limits(max_pixels=4_000_000, max_side=5_000))
        except Problem:
            continue
        passed += 1
    assert passed == 1  # many small text chunks are silly, not harmful


def test_limits_are_named():
    data = saved(Image.new("L", (300, 20)))
    with pytest.raises(Unprocessable, match="299"):
        read_header(data, Limits(10_000, 299))
    with pytest.raises(Unprocessable, match="5999"):
        decode(data, Limits(5_999, 300))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_damaged_files_raise_nothing_but_problems(seed):
    rng = random.Random(seed)
    data = corrupt(rng, rng.choice(list(seeds(random.Random(1)).values())))
    try:
        picture = decode(data, LIMITS, keep_metadata=True)
    except Problem:
        return
    assert picture.pixels.flags.c_contiguous
    encode(picture, rng.choice(list(MEDIA_TYPES)))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_avif_is_read_as_it_was_written(gray, transparent):
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 48, 0)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp, (48, 64, 3)))
    alpha = np.ascontiguousarray(pixels[..., 0]) if transparent else None
    content = encode(Picture(pixels, alpha, gray=gray), "avif", 95)
    picture = decode(content, LIMITS)
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 3
    assert (picture.alpha is not None) == transparent


def test_avif_is_written_within_a_limit():
    with pytest.raises(Unprocessable, match="webp"):
        encode(Picture(np.zeros((1, AVIF_PIXELS + 1, 3), np.uint8)), "avif")


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_thin_pictures_pass(size):
    picture = Picture(np.zeros((*size, 3), np.uint8))
    assert decode(encode(picture, "png"), LIMITS).size == size


def test_masks_of_every_convention():
    hole = np.zeros((6, 8), np.uint8)
    hole[2:4, 3:6] = 255
    white = saved(Image.fromarray(hole))
    black = saved(Image.fromarray(255 - hole))
    alpha = saved(Image.merge("LA", (Image.new("L", (8, 6), 9), Image.fromarray(255 - hole))))
    size = (6, 8)
    for data, mode in (
        (white, "white"),
        (black, "black"),
        (alpha, "alpha"),
        (alpha, "auto"),
        (white, "auto"),
    ):
        assert np.array_equal(decode_mask(data, mode, size, LIMITS), hole), mode
    with pytest.raises(Unprocessable, match="transparent"):
        decode_mask(white, "alpha", size, LIMITS)
    with pytest.raises(Unprocessable, match="8x6"):
        decode_mask(white, "white", (6, 9), LIMITS)


def test_sketches_of_every_convention():
    lines = np.zeros((6, 8), np.uint8)
    lines[3] = 255
    nothing = Image.merge("LA", (Image.new("L", (8, 6)), Image.fromarray(lines)))
    for data in (saved(Image.fromarray(lines)), saved(Image.fromarray(255 - lines)), saved(nothing)):
        assert np.array_equal(decode_sketch(data, (6, 8), LIMITS), lines)


@given(st.integers(-6, 6), st.integers(0, 5))
def test_growing_shrinking_and_feathering(grow, feather):
    mask = np.zeros((40, 40), np.uint8)
    mask[14:26, 14:26] = 200
    hole, blend = shape_hole(mask, grow, feather)
    core = blend == 1
    assert core.sum() == pytest.approx((12 + 2 * grow) ** 2, abs=60)
    assert np.array_equal(hole, blend > 0)
    assert (hole.sum() > core.sum()) == (feather > 0 and core.any())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(0, 399), st.integers(0, 399), st.integers(1, 90)), min_size=1, max_size=8),
    st.sampled_from([16, 64, 256]),
)
def test_every_hole_pixel_is_in_exactly_one_window(height, width, squares, window):
    hole = np.zeros((height, width), bool)
    for top, left, side in squares:
        hole[top : top + side, left : left + side] = True
    times = np.zeros(hole.shape, int)
    for plan in plan_holes(hole, window) if hole.any() else []:
        times[plan.bound.slices] += 1
        assert plan.answer(hole[plan.box.slices]).shape == hole[plan.bound.slices].shape
        assert max(plan.work) <= max(window, 1)
        pixels, gone = cut(np.zeros((height, width, 3), np.uint8), hole, plan, multiple=8, minimum=16)
        assert pixels.shape[:2] == gone.shape
        assert all(side % 8 == 0 and side >= 16 for side in gone.shape)
        assert gone.any()
    assert (times[hole] == 1).all()


def test_a_small_hole_beside_a_large_one_is_seen_at_full_size():
    hole = np.zeros((2000, 2000), bool)
    hole[200:1100, 900:960] = True
    hole[600:640, 1030:1080] = True
    small = next(plan for plan in plan_holes(hole, 512) if plan.bound == Box(600, 1030, 40, 50))
    assert small.native
    assert (
        cut(np.zeros((2000, 2000, 3), np.uint8), hole, small)[1].sum() > 40 * 50
    )  # it sees what else is missing


@pytest.mark.parametrize(("side", "work"), [(40, 256), (200, 400), (256, 512), (310, 512), (400, 512)])
def test_a_window_is_made_smaller_only_where_little_would_be_left_around_the_hole(side, work):
    hole = np.zeros((2000, 2000), bool)
    hole[700 : 700 + side, 900:930] = True
    [plan] = plan_holes(hole, 512)
    assert plan.work == (work, work)
    assert plan.native == (side <= 320)
    assert plan.box.height == (800 if side == 400 else work)


def test_shrinking_a_window_leaks_nothing_out_of_the_hole():
    hole = np.zeros((300, 300), bool)
    hole[100:200, 90:210] = True
    hole[77, 3] = True
    pixels = np.where(hole[..., None], 255, 40).astype(np.uint8).repeat(3, 2)
    for plan in plan_holes(hole, 64):
        small, gone = cut(pixels, hole, plan)
        assert (small[~gone] == 40).all()


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(100, 800),
    st.sampled_from([(32, 4), (64, 15), (128, 7)]),
    st.sampled_from([1, 8, 128]),
)
def test_cores_partition_the_enlarged_picture(height, width, hundredths, tiling, grid):
    tile, overlap = tiling
    out_height, out_width, vertical, horizontal = target_size(height, width, hundredths / 100, None, None)
    times = np.zeros((out_height, out_width), np.uint8)
    for piece in plan_tiles(height, width, tile, overlap, grid):
        top, left, tall, wide = core_region(piece, vertical, horizontal, (height, width), times.shape)
        times[top : top + tall, left : left + wide] += 1
        for span, side in ((piece.rows, height), (piece.columns, width)):
            assert span.length <= min(tile, side)
            assert span.length in (side, tile) or span.length % grid == 0
            assert span.start == 0 or span.core_start - span.start >= overlap
            assert span.start + span.length == side or span.start + span.length - span.core_stop >= overlap
    assert (times == 1).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([(32, 4), (64, 15), (256, 12)]))
def test_tiles_are_few_and_no_larger_than_they_must_be(side, tiling):
    tile, overlap = tiling
    lengths = [piece.columns.length for piece in plan_tiles(1, side, tile, overlap)]
    covered = side + 2 * overlap * (len(lengths) - 1)
    assert covered <= sum(lengths) < covered + len(lengths)
    assert len(lengths) == 1 or (len(lengths) - 1) * (tile - 2 * overlap) + 2 * overlap < side


def test_target_sizes():
    assert target_size(31, 40, 2.7, None, None)[:2] == (84, 108)
    assert target_size(30, 40, None, 100, None) == (75, 100, Fraction(5, 2), Fraction(5, 2))
    assert target_size(30, 40, None, 100, 60)[2:] == (Fraction(2), Fraction(5, 2))
    for wrong in ((None, 39, None), (None, 321, None), (None, None, 20)):
        with pytest.raises(Unprocessable):
            target_size(30, 40, *wrong)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_pasting_changes_nothing_outside(seed, kind):
    rng = np.random.default_rng(seed)
    top = np.iinfo(kind).max
    canvas = rng.integers(0, top, (60, 50, 3), kind, endpoint=True)
    before = canvas.copy()
    hole, blend = shape_hole((rng.random((60, 50)) > 0.99).astype(np.uint8) * 255, 1, int(rng.integers(0, 4)))
    if not hole.any():
        return
    for plan in plan_holes(hole, 16):
        fill = rng.integers(0, top, (plan.box.height + 3, plan.box.width + 1, 3), kind, endpoint=True)
        paste(canvas, plan.answer(fill), plan.bound, blend)
        inside = blend[plan.bound.slices] == 1
        assert np.array_equal(canvas[plan.bound.slices][inside], plan.answer(fill)[inside])
    assert np.array_equal(canvas[~hole], before[~hole])
