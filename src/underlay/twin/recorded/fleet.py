"""Which replicas were there when? As recorded, or some more or fewer of them.

Those that are added are like the first one of their model, ready when that was, and are never lost: nobody knows
what would have befallen them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from underlay.control.events import ReplicaDraining, ReplicaLost, ReplicaSeen
from underlay.twin.crowd.journal.survey import Survey

Moment = ReplicaSeen | ReplicaLost | ReplicaDraining


class Standing(NamedTuple):
    """A replica: whose model, how many slots, how many tokens its caches hold (0: it did not say), what befell it.

    ``moments`` are in seconds from the journal's first call on; what was before the run begins is to be made up
    for.
    """

    name: str
    model: str
    slots: int
    cache_tokens: int
    moments: tuple[tuple[float, Moment], ...]


def recorded(whole: Survey, replicas: int | None = None) -> list[Standing]:
    """The replicas of a journal, in the order they were seen; ``replicas`` of each model, if that is said."""
    told: dict[str, list[tuple[float, Moment]]] = {}
    first: dict[str, ReplicaSeen] = {}
    for at, change in whole.changes:
        if isinstance(change, ReplicaSeen):
            first.setdefault(change.replica, change)
        if isinstance(change, Moment) and change.replica in first:
            told.setdefault(change.replica, []).append((at, change))
    found = [
        Standing(name, seen.model, seen.slots, seen.cache_tokens, tuple(told[name])) for name, seen in first.items()
    ]
    return found if replicas is None else _resized(found, replicas)


def _resized(found: Sequence[Standing], replicas: int) -> list[Standing]:
    models = dict.fromkeys(each.model for each in found)
    resized = []
    for model in models:
        there = [each for each in found if each.model == model]
        resized += there[:replicas]
        taken = {each.name for each in found}
        number = 0
        while len(there) < replicas:
            number += 1
            name = f"{model}/added-{number}"
            if name not in taken:
                there.append(_like(there[0], name))
                resized.append(there[-1])
    return resized


def _like(other: Standing, name: str) -> Standing:
    at, moment = other.moments[0]
    return other._replace(name=name, moments=((at, structs.replace(moment, replica=name)),))
