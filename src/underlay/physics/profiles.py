"""How long do the steps of this model take on this accelerator, and how well is that known?

Profiles are data: one line each in ``data/step_profiles.jsonl``, with where it comes from, for what it holds and
how far it was off when checked. A profile belongs to one engine: other engines on the same accelerator were
measured up to 33 % away. Where there is none, the roofline gives a prior, marked as assumed; it is never passed
off as more.

What a method means here: ``measured``, steps of a running engine, timed as they are; ``calibrated``, this formula
fitted to timings from that very accelerator, or an estimate scaled to runs on it; ``modelled``, fitted to an
estimate that combines kernels timed on that accelerator; ``assumed``, reckoned from data sheets.

A profile of one's own (``read``; ``underlay calibrate`` writes such files) is one JSON object with the fields of
``Line``, no others. For an engine with slots (``llama.cpp``) few of them need a number: two knots of ``decode_ms``
and of ``mixed_ms`` each (a small batch and a full one; a short chunk and a long one), ``decode_kv_token_ns`` and
``prefill_pair_ns``; the rest may be 0. ``rules`` says what the engine was started with, if known,
``request_ms`` what a request takes beside its steps, and ``power`` what steps draw, where that was metered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from underlay.domain.errors import BadRequest, NotFound
from underlay.physics import catalogue, roofline
from underlay.physics.catalogue import Parallelism
from underlay.physics.step_power import StepPower
from underlay.physics.step_time import Curve, StepCoefficients

Method = Literal["measured", "calibrated", "modelled", "assumed"]


class Validity(msgspec.Struct, frozen=True):
    """Up to where a profile was fitted: decoding sequences and tokens in a step, tokens of one context."""

    decode_sequences: int
    step_tokens: int
    context_tokens: int


class FitError(msgspec.Struct, frozen=True):
    """Relative errors without sign: mean, and what 95 % stay below. ``against`` says compared with what."""

    decode_mean: float
    decode_p95: float
    prefill_mean: float
    prefill_p95: float
    against: str


class RunsError(msgspec.Struct, frozen=True):
    """The median relative error of the time per output token against whole runs on real machines."""

    tpot_median: float
    runs: int


class EngineRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the engine was started with when its steps were timed: a hint for whoever models it; none is not known.

    ``slots`` of ``slot_tokens`` (llama.cpp), or ``max_sequences`` and ``blocks`` of ``block_tokens`` (vLLM);
    ``step_tokens`` is the token budget of a step in both.
    """

    slots: int | None = None
    slot_tokens: int | None = None
    max_sequences: int | None = None
    blocks: int | None = None
    block_tokens: int | None = None
    step_tokens: int | None = None


class Profile(msgspec.Struct, frozen=True):
    """What is known about the steps of one model, so split, on one accelerator under one engine.

    ``runs_error`` is there where real runs were at hand. ``kv_token_bytes`` is for the whole replica; 0 if nobody
    said. ``request_s`` is what a request takes beside its steps, ``power`` what its steps draw; None where nobody
    metered them, which is not 0 W.
    """

    accelerator: str
    model: str
    parallelism: str
    precision: str
    engine: str
    method: Method
    source: str
    coefficients: StepCoefficients
    valid: Validity
    fit_error: FitError
    kv_token_bytes: int
    runs_error: RunsError | None = None
    rules: EngineRules | None = None
    request_s: float = 0.0
    power: StepPower | None = None

    def warnings(
        self, *, decode_sequences: int = 0, step_tokens: int = 0, context_tokens: int = 0
    ) -> tuple[str, ...]:
        """What to tell the reader of results that rest on this profile, at these greatest sizes."""
        asked = {
            "decoding sequences": (decode_sequences, self.valid.decode_sequences),
            "tokens in a step": (step_tokens, self.valid.step_tokens),
            "tokens of context": (context_tokens, self.valid.context_tokens),
        }
        said = [
            f"{self.name}: {used:,} {what}, but it was fitted up to {known:,}; beyond it is extrapolated."
            for what, (used, known) in asked.items()
            if used > known
        ]
        if self.method == "assumed":
            said.insert(
                0,
                f"{self.name}: no profile; reckoned from data sheets, usually "
                f"{self.fit_error.decode_mean:.0%} off ({self.fit_error.against}).",
            )
        return tuple(said)

    @property
    def name(self) -> str:
        """Which profile this is, for messages."""
        return f"{self.model} {self.parallelism} {self.precision} on {self.accelerator} ({self.engine})"


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the file: the same as a Profile, in units that read well."""

    accelerator: str
    model: str
    parallelism: str
    precision: str
    engine: str
    method: Method
    source: str
    decode_sequences: tuple[int, ...]
    decode_ms: tuple[float, ...]
    mixed_tokens: tuple[int, ...]
    mixed_ms: tuple[float, ...]
    decode_fixed_ms: float
    decode_sequence_us: float
    decode_kv_token_ns: float
    prefill_fixed_ms: float
    prefill_token_us: float
    prefill_pair_ns: float
    mixed_slowdown: float
    host_ms: float
    valid: Validity
    fit_error: FitError
    runs_error: RunsError | None = None
    kv_token_bytes: int | None = None
    rules: EngineRules | None = None
    request_ms: float = 0.0
    power: StepPower | None = None

    def coefficients(self) -> StepCoefficients:
        """The coefficients, in seconds."""
        return StepCoefficients(
            decode=Curve(self.decode_sequences, [ms * 1e-3 for ms in self.decode_ms]),
            mixed=Curve(self.mixed_tokens, [ms * 1e-3 for ms in self.mixed_ms]),
            decode_fixed_s=self.decode_fixed_ms * 1e-3,
            decode_sequence_s=self.decode_sequence_us * 1e-6,
            decode_kv_token_s=self.decode_kv_token_ns * 1e-9,
            prefill_fixed_s=self.prefill_fixed_ms * 1e-3,
            prefill_token_s=self.prefill_token_us * 1e-6,
            prefill_pair_s=self.prefill_pair_ns * 1e-9,
            mixed_slowdown=self.mixed_slowdown,
            host_s=self.host_ms * 1e-3,
        )


_NOT_BELOW_ZERO = (
    "decode_fixed_ms", "decode_sequence_us", "decode_kv_token_ns", "prefill_fixed_ms", "prefill_token_us",
    "prefill_pair_ns", "mixed_slowdown", "host_ms", "request_ms",
)  # fmt: skip


class Key(NamedTuple):
    """What a profile is found by."""

    accelerator: str
    model: str
    parallelism: str
    precision: str
    engine: str


def find(accelerator: str, model: str, parallelism: str, precision: str, *, engine: str = "vllm") -> Profile:
    """The profile of this combination, or a prior marked ``assumed``.

    Errors: NotFound for an accelerator or model outside the catalogue; BadRequest for a parallelism or precision
    that does not exist, or if the weights do not fit.
    """
    on, of = catalogue.accelerator(accelerator), catalogue.model(model)
    split = Parallelism.parse(parallelism)
    catalogue.kv_capacity_tokens(on, of, split, precision)
    line = lines().get(Key(accelerator, model, str(split), precision, engine))
    if line is None:
        return _assumed(on, of, split, precision, engine)
    return _as_profile(line, line.coefficients())


def _as_profile(line: Line, coefficients: StepCoefficients) -> Profile:
    return Profile(
        accelerator=line.accelerator,
        model=line.model,
        parallelism=line.parallelism,
        precision=line.precision,
        engine=line.engine,
        method=line.method,
        source=line.source,
        coefficients=coefficients,
        valid=line.valid,
        fit_error=line.fit_error,
        kv_token_bytes=_kv_token_bytes(line),
        runs_error=line.runs_error,
        rules=line.rules,
        request_s=line.request_ms * 1e-3,
        power=line.power,
    )


def _kv_token_bytes(line: Line) -> int:
    if line.kv_token_bytes is not None:
        return line.kv_token_bytes
    try:
        return catalogue.model(line.model).kv_token_bytes
    except NotFound:  # a profile of one's own may be of any model
        return 0


def read(path: Path) -> Profile:
    """A profile of one's own, from a file that holds one. Errors: BadRequest, which says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror or error}.", param="profile") from None
    try:
        line = msgspec.json.decode(data, type=Line)
        coefficients = line.coefficients()
    except (msgspec.DecodeError, ValueError) as error:
        hint = "A profile is one JSON object, as 'underlay calibrate --output FILE' writes it."
        raise BadRequest(f"{path}: {str(error).rstrip('.')}. {hint}", param="profile") from None
    below = [name for name in _NOT_BELOW_ZERO if getattr(line, name) < 0.0]
    if below:
        raise BadRequest(f"{path}: no work takes time away, but {', '.join(below)} is below 0.", param="profile")
    return _as_profile(line, coefficients)


def known() -> tuple[Key, ...]:
    """Every combination that has a profile."""
    return tuple(lines())


@cache
def lines() -> Mapping[Key, Line]:
    """The file, by key."""
    data = resources.files("underlay.physics").joinpath("data", "step_profiles.jsonl").read_bytes()
    read = msgspec.json.Decoder(Line).decode_lines
    return {
        Key(line.accelerator, line.model, line.parallelism, line.precision, line.engine): line
        for line in read(data)
    }


def _assumed(
    on: catalogue.Accelerator, of: catalogue.Model, split: Parallelism, precision: str, engine: str
) -> Profile:
    return Profile(
        accelerator=on.id,
        model=of.id,
        parallelism=str(split),
        precision=precision,
        engine=engine,
        method="assumed",
        source=f"roofline of data sheets: {on.source}; {of.source}",
        coefficients=roofline.prior(on, of, split, precision),
        valid=Validity(roofline.DECODE_SEQUENCES[-1], roofline.STEP_TOKENS[-1], of.context_tokens or 32_768),
        fit_error=FitError(*roofline.error(split), against="mean over the profiles that there are"),
        kv_token_bytes=of.kv_token_bytes,
    )
