"""How long do the steps of the recorded engines take? By a profile that was named, or else as the journal tells.

A profile is the file that ``underlay calibrate`` writes, or one that ships, by ``accelerator/model/parallelism/
precision`` (the last two may be left out: tp1, bf16).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from underlay.domain.errors import BadRequest
from underlay.physics import profiles
from underlay.physics.profiles import Method
from underlay.physics.step_time import StepCoefficients
from underlay.twin.crowd.journal.loads import Times
from underlay.twin.crowd.journal.survey import Survey

from . import steps

#: The model that a profile without one is for.
EVERY = ""


class Pace(NamedTuple):
    """How fast a model's engines are.

    ``engine`` is whose rules they go by where that is known, ``source`` where all this is from, ``beside_s`` what a
    request takes beside its steps, ``decode_off`` and ``prefill_off`` the mean relative errors.
    """

    coefficients: StepCoefficients
    engine: str
    method: Method
    source: str
    beside_s: float
    decode_off: float
    prefill_off: float
    warnings: tuple[str, ...] = ()


def paces(whole: Survey, named: Mapping[str, str]) -> dict[str, Pace]:
    """The pace of every model that has replicas or calls. ``named`` are profiles by model. Errors: BadRequest."""
    unknown = [model for model in named if model != EVERY and model not in whole.models]
    if unknown:
        there = ", ".join(whole.models)
        raise BadRequest(f"Nobody asked for {unknown[0]} in this journal; models are: {there}.", param="profile")
    found = {}
    for model in whole.models:
        profile = named.get(model) or named.get(EVERY)
        found[model] = _named(profile, whole, model) if profile else _fitted(whole, model)
    return found


def _fitted(whole: Survey, model: str) -> Pace:
    found = steps.fit(model, whole.times.get(model) or Times())
    error = found.error
    source = f"fitted to {found.requests:,} answers in the journal, checked against {error.against}"
    return Pace(
        found.coefficients,
        "",
        "calibrated",
        source,
        found.beside_s,
        error.decode_mean,
        error.prefill_mean,
        found.warnings,
    )


def _named(profile: str, whole: Survey, model: str) -> Pace:
    """A profile by its file or name; what a request takes beside its steps is the journal's."""
    known = whole.times.get(model) or Times()
    beside_s = steps.beside_s(known)
    path = Path(profile)
    if path.is_file():
        line = _line(path)
        said = f"{line.source} ({path.name})"
        off = line.fit_error
        return Pace(
            line.coefficients(), line.engine, line.method, said, beside_s, off.decode_mean, off.prefill_mean
        )
    parts = profile.split("/")
    if not 2 <= len(parts) <= 4:
        said = "give the path of a file, or accelerator/model, as in h100-sxm/llama-3.1-8b/tp1/bf16."
        raise BadRequest(f"There is no profile {profile!r}: {said}", param="profile")
    parallelism, precision = [*parts[2:], *("tp1", "bf16")[len(parts) - 2 :]]
    found = profiles.find(parts[0], parts[1], parallelism, precision, engine="vllm")
    off = found.fit_error
    return Pace(
        found.coefficients,
        "vllm",
        found.method,
        found.source,
        beside_s,
        off.decode_mean,
        off.prefill_mean,
        found.warnings(),
    )


def _line(path: Path) -> profiles.Line:
    try:
        return msgspec.json.decode(path.read_bytes(), type=profiles.Line)
    except (OSError, msgspec.DecodeError) as error:
        raise BadRequest(f"{path} cannot be read as a profile: {error}", param="profile") from None
