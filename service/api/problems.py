"""Every failure leaves as RFC 9457 problem+json: what happened, what to change, the request's id."""

from __future__ import annotations

import http
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service.errors import Problem, invalid_parameters
from service.observability.logs import request_id


def problem_response(
    status: int, title: str, detail: str, retry_after: float | None = None, **extra: Any
) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    body |= {"request_id": request_id.get()} | extra
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def from_problem(problem: Problem) -> Response:
    response = problem_response(
        problem.status, problem.title, problem.detail, problem.retry_after, **problem.extra
    )
    if problem.status == http.HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="Retouch"'
    return response


def route_that_says(members: Callable[[Problem], dict[str, Any]]) -> type[APIRoute]:
    """Routes whose problems have the members that another protocol's clients look for, beside their own."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except Problem as problem:
                    extra = problem.extra | members(problem)
                    raise type(problem)(problem.detail, retry_after=problem.retry_after, **extra) from problem

            return handled

    return Route


def allowed(request: Request, of_route: str) -> str:
    """All methods of the path: a route knows its own alone."""
    path = getattr(request.scope.get("route"), "path", "")
    methods = {*of_route.split(", "), *map(str.upper, request.app.openapi()["paths"].get(path, {}))}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def install(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return from_problem(error)

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        title = http.HTTPStatus(error.status_code).phrase
        response = problem_response(error.status_code, title, str(error.detail or title))
        response.headers.update(error.headers or {})
        if "Allow" in response.headers:
            response.headers["Allow"] = allowed(request, response.headers["Allow"])
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return from_problem(invalid_parameters(list(error.errors())))

    @app.exception_handler(ValidationError)
    async def invalid_model(_: Request, error: ValidationError) -> Response:
        return from_problem(invalid_parameters(list(error.errors())))
