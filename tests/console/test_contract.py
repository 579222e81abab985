"""The console keeps to its own description, whatever is thrown at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from underlay.console.app import create_app
from underlay.console.openapi import document

from .listeners import serving
from .sample import CONSOLE_KEY, SampleViews

OWN = "http://127.0.0.1:8081"
SCHEMA = schemathesis.openapi.from_dict(document("0", OWN, OWN)).include(tag="console")
OPERATIONS = {f"{op.method} {op.path}": op for op in (result.ok() for result in SCHEMA.get_all_operations())}


@pytest.fixture(scope="module")
def console() -> Iterator[str]:
    with serving(create_app(SampleViews())) as address:
        yield address


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_reply_is_one_that_was_described(console, name):
    @given(case=OPERATIONS[name].as_strategy())
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def throw(case: schemathesis.Case) -> None:
        reply = case.call(base_url=console, headers={"Authorization": f"Bearer {CONSOLE_KEY}"})
        case.validate_response(reply)

    throw()
