"""What can go wrong in words a caller understands. Rooms raise these; only `api` turns them into HTTP."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class Problem(Exception):
    """A failure with a public text. `status` is the HTTP status that means the same."""

    status = 500
    title = "The request could not be answered"

    def __init__(self, detail: str, *, retry_after: float | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra  # machine-readable facts: the limit that was met, what was seen


class BadRequest(Problem):
    status = 400
    title = "The request is malformed"


class Unauthorized(Problem):
    status = 401
    title = "A valid API key is needed"


class NotFound(Problem):
    status = 404
    title = "There is no such thing"


class NotReady(Problem):
    status = 409
    title = "There is no answer yet"


class UploadTooSlow(Problem):
    status = 408
    title = "The upload took too long"


class TooLarge(Problem):
    """More bytes than the service takes."""

    status = 413
    title = "The upload is too large"


class UnsupportedImage(Problem):
    """Bytes that are no picture of a format we read."""

    status = 415
    title = "The image format is not supported"


class Unprocessable(Problem):
    """Well-formed, and still not something that can be done: broken pixels, a full mask, too many pixels."""

    status = 422
    title = "The request cannot be processed"


class TooManyRequests(Problem):
    """This caller asks for more than its share."""

    status = 429
    title = "Too many requests"


class Overloaded(Problem):
    """The service has more work queued than it is willing to promise."""

    status = 503
    title = "The service is overloaded"


class Unavailable(Problem):
    status = 503
    title = "The service is not available"


class DeadlineExceeded(Problem):
    status = 504
    title = "The request took too long"


class Cancelled(Problem):
    """The client left; nobody reads this answer."""

    status = 499
    title = "The client closed the request"


class NotSupported(Problem):
    """Something that this deployment does in another way, which the detail names."""

    status = 501
    title = "This deployment does not do that"


class ComputeFailed(Problem):
    """A network failed on this very window, alone and in float32."""

    status = 500
    title = "The network failed on this picture"


class Poisoned(Problem):
    """Workers died of this very request, so it is not tried again."""

    status = 500
    title = "The request was given up"


class UsageError(Exception):
    """Something on the command line or in the environment that its writer can change."""


def invalid_parameters(errors: list[Any]) -> Unprocessable:
    """Pydantic's findings as one sentence a parameter; the values sent are not echoed."""
    findings = [
        {"parameter": ".".join(str(part) for part in error["loc"]) or "request", "problem": error["msg"]}
        for error in errors
    ]
    text = "; ".join(
        f"{finding['parameter']}: {finding['problem']}" if error["loc"] else finding["problem"]
        for finding, error in zip(findings, errors, strict=True)
    )
    return Unprocessable(text[:2000], parameters=findings)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where nothing known is like it."""
    found = difflib.get_close_matches(name[:100], list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
