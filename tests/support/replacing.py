"""Putting something of the test's own in the place of an object's method."""

from typing import Any

import pytest


def replace(owner: Any, name: str, method: Any) -> None:
    """Let ``owner`` use this method. A compiled object (``scripts/compile``) cannot: there the test is skipped."""
    try:
        setattr(owner, name, method)
    except AttributeError:
        pytest.skip(f"{type(owner).__name__} is compiled: its methods cannot be replaced")
