"""Which of the known has this id, and if none, which was perhaps meant?"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from underlay.domain.errors import NotFound

_Known = TypeVar("_Known")


def named(known: Mapping[str, _Known], name: str, kind: str) -> _Known:
    """The one with this id. Errors: NotFound, with what was perhaps meant."""
    found = known.get(name)
    if found is None:
        near = get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
        raise NotFound(f"There is no {kind} {name!r}; {meant}", param=kind)
    return found
