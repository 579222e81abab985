"""How long are the steps of an engine, as far as its requests' times tell?

A journal has no steps, only requests; so what is fitted is a step that costs a fixed time, some for each decoding
sequence, some for each token in the KV cache and some for each token (and pair of tokens) of a prompt: the formula
of ``physics.step_time`` without its tables. A calibration of the engine knows more; this knows the machine as it
was, with all that ran beside. A quarter of the requests is held out, and the error is told of those.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from underlay.domain.errors import BadRequest
from underlay.physics.fitting import DecodeStep, PrefillStep, Spread, fit_decode, fit_prefill, spread
from underlay.physics.profiles import FitError
from underlay.physics.step_time import Curve, StepCoefficients, attention_pairs
from underlay.twin.crowd.journal.loads import DecodeTime, PromptTime, Times

_Measured = TypeVar("_Measured")
_Coefficients = tuple[float, float, float]

#: Requests that a fit needs at the least, and from which on some are held out.
NEEDED = 4
_HELD_OUT_FROM = 16
#: Every so-manieth is held out.
_HOLD_EACH = 4
#: Of a prompt's time at least that much is its own.
_OWN_LEAST = 0.1
#: A table must hold numbers above 0: that part of the shortest time, which the fixed time makes up for.
_LEAST = 0.02


class Fitted(NamedTuple):
    """Step times from a journal: how far off they are, from how many requests, and what a request takes besides."""

    coefficients: StepCoefficients
    error: FitError
    requests: int
    beside_s: float
    warnings: tuple[str, ...] = ()


def fit(model: str, times: Times) -> Fitted:
    """The step times of a model. Errors: BadRequest, if there is too little to tell them from."""
    prompts, decodes = _undisturbed(times.prompts.kept), times.decodes.kept
    if len(prompts) < NEEDED or len(decodes) < NEEDED:
        raise BadRequest(
            f"Only {len(prompts)} prompts and {len(decodes)} answers of {model} were timed in this journal, too few"
            " to tell from how long its steps are: name a profile.",
            param="profile",
        )
    prompt_fit, prompt_proof = _parted(prompts)
    decode_fit, decode_proof = _parted(decodes)
    floor_s = _LEAST * min(*(each.took_s for each in prompts), *(each.took_s / each.steps for each in decodes))
    table = Curve((1,), (max(floor_s, 1e-6),))
    prefill, rough_prefill = _fit_prompts(prompt_fit, table)
    if any(each.crowded for each in prompts):
        prefill = _thinned(prefill, decode_fit)
    decode, rough_decode = _fit_decodes(decode_fit, table, prefill)
    cost = StepCoefficients(table, table, *decode, *prefill)
    against = (
        "requests of the same journal that were not fitted"
        if decode_proof is not decode_fit
        else "the requests it was fitted to"
    )
    decode_off, prompt_off = _off_decodes(cost, decode_proof), _off_prompts(cost, prompt_proof)
    warnings = [
        f"{model}: its requests were too much alike to tell what {what} depends on; a mean was taken."
        for what, rough in (("the time of a prompt", rough_prefill), ("the time of a decode step", rough_decode))
        if rough
    ]
    error = FitError(decode_off.mean, decode_off.p95, prompt_off.mean, prompt_off.p95, against)
    return Fitted(cost, error, len(decodes), beside_s(times), tuple(warnings))


def beside_s(times: Times) -> float:
    """What a request takes to its first token beside its prompt, at the median; 0 where engines did not say."""
    known = [each.beside_s for each in _undisturbed(times.prompts.kept) if each.beside_s is not None]
    return statistics.median(known) if known else 0.0


def _undisturbed(prompts: Sequence[PromptTime]) -> list[PromptTime]:
    """Prompts that had their replica as nearly for themselves as enough of them had."""
    ranked = sorted(prompts, key=lambda each: each.crowded)
    if len(ranked) <= NEEDED:
        return ranked
    most = ranked[max(NEEDED, len(ranked) // 8) - 1].crowded
    return [each for each in prompts if each.crowded <= most]


def _parted(measured: Sequence[_Measured]) -> tuple[Sequence[_Measured], Sequence[_Measured]]:
    """Those to fit and those to prove the fit with."""
    if len(measured) < _HELD_OUT_FROM:
        return measured, measured
    return [each for n, each in enumerate(measured) if n % _HOLD_EACH], measured[::_HOLD_EACH]


def _fit_prompts(prompts: Sequence[PromptTime], table: Curve) -> tuple[_Coefficients, bool]:
    """Fixed time, that per token and per pair of tokens; whether that is only a mean."""
    steps = [PrefillStep(each.tokens, each.cached_tokens, each.took_s) for each in prompts]
    try:
        fixed_s, token_s, pair_s = fit_prefill(steps, table)
        rough = False
    except ValueError:  # all of one length, say
        fixed_s, pair_s, rough = 0.0, 0.0, True
        token_s = statistics.median(each.took_s / each.tokens for each in prompts)
    said_s = [
        fixed_s + token_s * each.tokens + pair_s * attention_pairs(each.tokens, each.cached_tokens)
        for each in prompts
    ]
    return _levelled((fixed_s, token_s, pair_s), said_s, [each.took_s for each in prompts]), rough


def _thinned(prefill: _Coefficients, decodes: Sequence[DecodeTime]) -> _Coefficients:
    """Prompts' times without what they waited for each other.

    Where no prompt had its replica for itself, its time holds others' too. How much of it is its own shows in the
    answers that were held up meanwhile: of their times, that share is fitted together with the rest.
    """
    fixed_s, token_s, _ = prefill
    rows = [
        (each.steps, each.steps * each.sequences, each.prompts * fixed_s + each.prompt_tokens * token_s)
        for each in decodes
    ]
    weighed = np.array(rows) / np.array([[each.took_s] for each in decodes])
    share = float(np.linalg.lstsq(weighed, np.ones(len(rows)), rcond=None)[0][2])
    own = min(max(share, _OWN_LEAST), 1.0)
    return fixed_s * own, token_s * own, prefill[2] * own


def _fit_decodes(decodes: Sequence[DecodeTime], table: Curve, prefill: _Coefficients) -> tuple[_Coefficients, bool]:
    """Fixed time of a step, that per sequence and per token in the KV cache; whether that is only a mean."""
    steps = [DecodeStep(each.sequences, each.kv_tokens, _step_s(each, prefill)) for each in decodes]
    try:
        found, rough = fit_decode(steps, table), False
    except ValueError:
        found, rough = (statistics.median(step.step_s for step in steps), 0.0, 0.0), True
    fixed_s, sequence_s, token_s = found
    said_s = [each.steps * (fixed_s + sequence_s * each.sequences + token_s * each.kv_tokens) for each in decodes]
    took_s = [each.steps * step.step_s for each, step in zip(decodes, steps, strict=True)]
    return _levelled(found, said_s, took_s), rough


def _levelled(found: _Coefficients, said_s: Sequence[float], took_s: Sequence[float]) -> _Coefficients:
    """The coefficients with which all together take as long as they did.

    Least squares of relative errors lean to the quick ones where times scatter, and an engine that is too quick has
    no queues.
    """
    factor = sum(took_s) / max(sum(said_s), 1e-9)
    fixed_s, first_s, second_s = found
    return fixed_s * factor, first_s * factor, second_s * factor


def _step_s(each: DecodeTime, prefill: _Coefficients) -> float:
    """A step of an answer, without what others' prompts took; at least half of what it was with them."""
    fixed_s, token_s, _ = prefill
    others_s = each.prompts * fixed_s + each.prompt_tokens * token_s
    return max(each.took_s - others_s, 0.5 * each.took_s) / each.steps


def _off_decodes(cost: StepCoefficients, decodes: Sequence[DecodeTime]) -> Spread:
    """How far whole answers are off."""
    said = [
        each.steps * (cost.decode.at(1) + cost.decode_fixed_s + cost.decode_sequence_s * each.sequences)
        + each.steps * cost.decode_kv_token_s * each.kv_tokens
        + each.prompts * cost.prefill_fixed_s
        + each.prompt_tokens * cost.prefill_token_s
        for each in decodes
    ]
    return spread(said, [each.took_s for each in decodes])


def _off_prompts(cost: StepCoefficients, prompts: Sequence[PromptTime]) -> Spread:
    """How far prompts are off."""
    said = [cost.step_s(each.tokens, 0, 0, attention_pairs(each.tokens, each.cached_tokens)) for each in prompts]
    return spread(said, [each.took_s for each in prompts])
