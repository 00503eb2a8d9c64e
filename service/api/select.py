"""POST /select: clicks on an object to its mask."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from service.api.answer import unless_gone
from service.api.openapi import UPLOAD, form, problems
from service.api.services import services
from service.api.uploads import Upload, read_upload
from service.errors import BadRequest, Unprocessable
from service.imaging.decode import decode
from service.imaging.limits import Limits
from service.imaging.png import write_png
from service.imaging.select import Hints, Point, Selector, grab
from service.work import read_parameters

MOST_POINTS = 200
POINTS: dict[str, JsonValue] = {"pattern": "^([0-9]{1,6},[0-9]{1,6}( [0-9]{1,6},[0-9]{1,6})*)?$"}
BOX: dict[str, JsonValue] = {"pattern": "^([0-9]{1,6}(,[0-9]{1,6}){3})?$"}
NUMBERS = re.compile(r"\d{1,6}(,\d{1,6})+")


class SelectParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    inside: str = Field(
        "",
        max_length=4000,
        description='Pixels of the object: "column,row column,row".',
        json_schema_extra=POINTS,
    )
    outside: str = Field(
        "",
        max_length=4000,
        description="Pixels that are not of the object, likewise.",
        json_schema_extra=POINTS,
    )
    box: str = Field(
        "",
        max_length=60,
        description='What the object lies within: "left,top,right,bottom".',
        json_schema_extra=BOX,
    )
    shadow: bool = Field(False, description="Take the object's shadow with it.")


@dataclass(frozen=True)
class SelectForm:
    parameters: type[SelectParameters]
    files: Mapping[str, str]
    bare: bool


FORM = SelectForm(
    SelectParameters, {"image": "The picture, or the part of it that shows the object."}, bare=True
)
select_by: Selector = grab
MASK = {"description": "The mask, white on the object", "content": {"image/png": {}}}
router = APIRouter(tags=["pictures"])


@router.post(
    "/select",
    summary="Propose an object's mask",
    response_class=Response,
    openapi_extra=form(FORM),
    responses={200: MASK, **problems(*UPLOAD)},
)
async def select(request: Request) -> Response:
    at = services(request)
    with at.access.admitted(request):
        upload = await read_upload(request, FORM)
        limits = Limits(at.settings.max_pixels, at.settings.max_side)

        async def compute() -> bytes:
            async with at.selecting:
                return await asyncio.to_thread(mask_of, upload, limits)

        return Response(await unless_gone(request, compute()), media_type="image/png")


def mask_of(upload: Upload, limits: Limits) -> bytes:
    parameters = read_parameters(SelectParameters, upload.fields, FORM.files)
    if "image" not in upload.files:
        raise BadRequest("There is no picture: send it as the multipart file 'image'.")
    picture = decode(upload.files["image"], limits)
    size = (picture.width, picture.height)
    inside, outside = (points(text, size) for text in (parameters.inside, parameters.outside))
    box = box_of(parameters.box)
    if not inside and box:
        inside = [((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)]
    if not inside:
        raise Unprocessable("Say where the object is: give 'inside' or 'box'.")
    return write_png(select_by(picture.pixels, Hints(inside, outside, box, parameters.shadow))[..., None])


def points(text: str, size: tuple[int, int]) -> Sequence[Point]:
    found = [numbers(pair, 2) for pair in text.split()]
    if len(found) > MOST_POINTS:
        raise Unprocessable(f"At most {MOST_POINTS} points are taken.", limit=MOST_POINTS)
    for column, row in found:
        if column >= size[0] or row >= size[1]:
            raise Unprocessable(f"The point {column},{row} lies outside the picture, {size[0]}x{size[1]}.")
    return [(column, row) for column, row in found]


def box_of(text: str) -> tuple[int, int, int, int] | None:
    if not text:
        return None
    left, top, right, bottom = numbers(text, 4)
    if left >= right or top >= bottom:
        raise Unprocessable("The box has nothing in it; it is left,top,right,bottom.")
    return left, top, right, bottom


def numbers(text: str, count: int) -> list[int]:
    if not NUMBERS.fullmatch(text) or text.count(",") != count - 1:
        raise Unprocessable(f"{text[:40]!r} is not {count} whole numbers with commas between them.")
    return [int(number) for number in text.split(",")]
