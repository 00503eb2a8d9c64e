"""A request's body and query as pictures and parameters."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from service.errors import BadRequest, Cancelled, UnsupportedImage, nearest
from service.work import ALIASES, MEDIA_TYPES

MAX_FIELDS = 16
JSON = "application/json"
MOST_MARKS = 2000  # quotes, commas and brackets
DATA_URL = re.compile(r"data:[^,]{0,200},")


class Parser(MultiPartParser):
    # Bodies are bounded before they get here, so they never need to spill to a disk that may be full.
    spool_max_size = 1 << 40


@dataclass
class Upload:
    files: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    def put_field(self, name: str, value: str) -> None:
        """Query and form may say the same: clients are generated that send both."""
        if self.fields.get(name, value) != value:
            raise BadRequest(f"Parameter {name[:100]!r} is given twice, with different values.")
        self.fields[name] = value


class Form(Protocol):
    """What a route takes."""

    @property
    def parameters(self) -> type[BaseModel]: ...

    @property
    def files(self) -> Mapping[str, str]:
        """Name to what it is."""

    @property
    def bare(self) -> bool:
        """Whether the picture alone may be the body."""


def sent_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_upload(request: Request, kind: Form) -> Upload:
    """The form's files and all parameters, from the form, the query and, where it may be, a bare picture."""
    upload = Upload()
    for name, value in request.query_params.multi_items():
        upload.put_field(name, value)
    content_type = sent_type(request)
    try:
        if content_type == "multipart/form-data":
            await _read_multipart(request, set(kind.files), upload)
        elif content_type == JSON:
            _read_json(await request.body(), set(kind.files), upload)
        elif kind.bare and (content_type.startswith("image/") or content_type == "application/octet-stream"):
            upload.files["image"] = await request.body()
        else:
            accepted = f"multipart/form-data, {JSON}" + (
                " or a picture with its image content type" if kind.bare else ""
            )
            raise UnsupportedImage(f"The body must be {accepted}, not {content_type[:100] or 'untyped'}.")
    except ClientDisconnect:
        raise Cancelled("The client left while uploading.") from None
    for name, content in upload.files.items():
        if not content:
            raise BadRequest(f"The file {name!r} is empty.")
    preferred = preferred_format(request.headers.get("accept", ""))
    if preferred and "format" in kind.parameters.model_fields:
        upload.fields.setdefault("format", preferred)
    return upload


def preferred_format(accept: str) -> str | None:
    """The format that a client likes best, the first of equals; None where it leaves the choice to us."""
    choices: list[tuple[float, bool, int, str]] = []
    for place, part in enumerate(accept.split(",")):
        media_type, *options = (piece.strip().lower() for piece in part.split(";"))
        weight = next((option[2:] for option in options if option.startswith("q=")), "1")
        share = float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0
        kind, _, name = media_type.partition("/")
        name = ALIASES.get(name, name)
        named = kind == "image" and name in MEDIA_TYPES
        if share and (named or media_type in ("*/*", "image/*")):
            # Of a name and a wildcard that weigh the same, the name says more.
            choices.append((share, named, -place, name))
    _, named, _, best = max(choices, default=(0.0, False, 0, ""))
    return best if named else None


def from_base64(name: str, text: Any) -> bytes:
    """A file that came as text; as a data: URL, too."""
    try:
        encoded = DATA_URL.sub("", text, count=1) if text.startswith("data:") else text
        return binascii.a2b_base64(encoded.encode().translate(None, b" \t\r\n"), strict_mode=True)
    except (AttributeError, ValueError):
        raise BadRequest(f"{name!r} is a file: in JSON it is a string, the file in base64.") from None


def _read_json(body: bytes, wanted: set[str], upload: Upload) -> None:
    # Base64 has none of these. Each may cost twenty times its size in memory.
    if sum(map(body.count, (b'"', b",", b"[", b"{"))) > MOST_MARKS:
        raise BadRequest(
            "The JSON has too many parts: it is one object, with files in base64 and parameters."
        )
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {str(error)[:100]}.") from None
    if not isinstance(sent, dict):
        raise BadRequest("The body must be a JSON object, with files in base64 and parameters by name.")
    for name, value in sent.items():
        if value is None:
            continue
        if name in wanted:
            upload.files[name] = from_base64(name, value)
        else:
            upload.put_field(name, value if isinstance(value, str) else json.dumps(value))


async def _read_multipart(request: Request, wanted: set[str], upload: Upload) -> None:
    parser = Parser(
        request.headers, request.stream(), max_files=len(wanted), max_fields=MAX_FIELDS, max_part_size=4096
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        hint = ""
        if "maximum size" in error.message:
            hint = " A file is sent with a file name (curl: -F image=@FILE)."
        raise BadRequest(f"The multipart body cannot be read: {error.message}{hint}") from None
    except KeyError:
        raise BadRequest("The multipart content type names no boundary.") from None
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                upload.put_field(name, value)
            elif name not in wanted:
                known = ", ".join(sorted(wanted))
                raise BadRequest(
                    f"Unknown file {name[:100]!r}{nearest(name, wanted) or '.'} Files are: {known}."
                )
            elif name in upload.files:
                raise BadRequest(f"The file {name!r} is given twice.")
            else:
                upload.files[name] = await value.read()
    finally:
        await form.close()
