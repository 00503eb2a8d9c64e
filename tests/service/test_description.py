"""Schemathesis, which makes requests of the description and looks whether the answers are as it says."""

from __future__ import annotations

import base64

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.specs.openapi import checks as described

from tests.service.pictures import noise, png
from tests.service.server import Server

EXAMPLES = 12  # an operation; a few seconds in all
PICTURES = [png(noise(8, 9)), png(noise(8, 9, 4)), b"not a picture", b""]
CHECKS = [
    checks.not_a_server_error,
    described.status_code_conformance,
    described.content_type_conformance,
    described.response_headers_conformance,
    described.response_schema_conformance,
]


@pytest.fixture(scope="module")
def schema(page_server: Server) -> schemathesis.BaseSchema:
    # Of random bytes next to none would be pictures.
    schemathesis.openapi.format("binary", st.sampled_from(PICTURES))
    schemathesis.openapi.format(
        "byte", st.sampled_from([base64.b64encode(each).decode() for each in PICTURES])
    )
    return schemathesis.openapi.from_url(f"{page_server.url}/openapi.json")


def test_every_answer_is_as_described(schema):
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answers(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)

        answers()
