"""Requests drawn from the OpenAPI that is served, right ones and wrong ones, at every route."""

from __future__ import annotations

from typing import Any, cast

import httpx2
import pytest
import schemathesis
from doors import OpenDoors
from fuzz.conftest import ADMIN_KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)


def only_documented_faults(context: object, response: schemathesis.Response, case: Case) -> None:
    """A server error comes only of a deadline, and only to who set one."""
    if response.status_code >= 500:
        assert response.status_code == 504, response.text
        assert "X-Request-Timeout-Ms" in case.headers, response.text


CHECKS = [
    only_documented_faults,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 8  # of each kind, at each route


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_route_answers_as_it_is_documented(doors: OpenDoors, mode: GenerationMode):
    """Right requests and wrong ones: a status, a type and a body of the document, and no fault."""
    document = httpx2.get(f"{doors.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations: list[Any] = [found.ok() for found in cast(Any, schema).get_all_operations()]
    assert {operation.path for operation in operations} == set(document["paths"])
    for operation in operations:
        try:
            cases = operation.as_strategy(generation_mode=mode)
            _ask(doors, cases)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, operation.label  # nothing there can be wrong


def _ask(doors: OpenDoors, cases: st.SearchStrategy[Case]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=cases)
    def ask(case: Case) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"} if "/soups" in case.path else None
        case.call_and_validate(base_url=doors.url, checks=CHECKS, headers=headers)

    ask()
