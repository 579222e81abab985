"""What would have become of a recorded hour, had something been otherwise? And how near is the twin to what became?

Live figures are measured by the gateway's clock: a first token counts when the gateway has it. The twin's are
modelled, so the two are compared and never demanded to be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.journal.calls import RecordedCall, calls_in
from underlay.twin.crowd.journal.crowd import Journal
from underlay.twin.crowd.journal.survey import MODELLED, Survey, survey
from underlay.twin.records import OUTCOMES, Requests, RunResult, Series
from underlay.twin.simulation import Outline, Progress, Simulation, Stop, never, nobody_watches
from underlay.twin.summary import Summary, summarise

from .hour import REGION, Hour, Terms
from .profiles import Pace, paces

#: Terms that are no settings of the desk.
REPLICAS, RATE = "replicas", "rate"
_SAMPLES = 240
_SAMPLE_MIN_S = 0.1
_LATER = {name: place for place, name in enumerate(OUTCOMES)}


class Question(NamedTuple):
    """Which part of which journal (seconds from its first call), by which profiles, and what was promised."""

    path: Path
    profiles: tuple[tuple[str, str], ...] = ()
    start_s: float = 0.0
    stop_s: float = inf
    slo: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.path.stem

    def crowd(self) -> Journal:
        """Its callers. Errors: BadRequest."""
        try:
            return Journal(self.path, start_s=self.start_s, stop_s=self.stop_s)
        except ValueError as error:
            raise BadRequest(str(error), param="start_s") from None

    def outline(self) -> Outline:
        """Until its last call has come, or until the hour is over."""
        whole = survey(self.path)
        duration_s = max(1.0, min(self.stop_s, whole.last_s) - self.start_s + 1e-3)
        return Outline(self.name, duration_s, max(_SAMPLE_MIN_S, duration_s / _SAMPLES), dict(self.slo))


def terms_of(changes: Mapping[str, str]) -> Terms:
    """What is otherwise: settings of the desk, ``replicas`` and ``rate``. Errors: BadRequest."""
    replicas = _number(changes, REPLICAS, int)
    rate = _number(changes, RATE, float)
    settings = tuple((name, text) for name, text in changes.items() if name not in {REPLICAS, RATE})
    return Terms(settings, replicas, 1.0 if rate is None else rate)


def _number(changes: Mapping[str, str], name: str, kind: type[Any]) -> Any:
    if name not in changes:
        return None
    try:
        value = kind(changes[name])
    except ValueError:
        value = 0
    if not 0 < value < inf:
        raise BadRequest(
            f"{name} must be a {'whole ' * (kind is int)}number above 0, not {changes[name]}.", param=name
        )
    return value


def check(question: Question, changes: Mapping[str, str]) -> None:
    """Find out before anything runs whether it can. Errors: BadRequest, DocumentError."""
    question.crowd().check()
    _hour(question, terms_of(changes), 0)


def run(
    question: Question,
    changes: Mapping[str, str],
    seed: int,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    check: bool = False,
) -> RunResult:
    """The hour decided again, on these terms. Equal seeds give equal results. Errors: BadRequest, DocumentError."""
    simulation = Simulation(_hour(question, terms_of(changes), seed), question.outline(), seed, check=check)
    simulation.go(progress or nobody_watches, stop or never)
    return simulation.result()


def _hour(question: Question, terms: Terms, seed: int) -> Hour:
    return Hour(question.crowd(), pace_of(question), terms, seed, duration_s=question.outline().duration_s)


def pace_of(question: Question) -> dict[str, Pace]:
    """How fast the engines are taken to be. Errors: BadRequest."""
    return paces(survey(question.path), dict(question.profiles))


def live(question: Question) -> Summary:
    """What became of the hour, as the journal has it; its figures are measured. Errors: BadRequest."""
    whole, outline = survey(question.path), question.outline()
    requests = Requests()
    for call in calls_in(question.path):
        at = call.arrived.at - whole.begin_at - question.start_s
        if at >= outline.duration_s:
            break
        if at >= 0.0 and call.arrived.operation in MODELLED and call.outcome != "repeated":
            _write_down(requests, call, at, whole)
    result = RunResult(
        scenario=question.name,
        seed=0,
        duration_s=outline.duration_s,
        simulated_s=outline.duration_s,
        trace_hash=blake2b(requests.hash().encode(), digest_size=16).hexdigest(),
        events=0,
        requests=requests,
        series=Series(),
        slo=dict(outline.slo),
    )
    summary = summarise(result)
    summary.figures = tuple(figure._replace(method="measured") for figure in summary.figures)
    return summary


def _write_down(requests: Requests, call: RecordedCall, at: float, whole: Survey) -> None:
    place, began_at, usage = requests.place, call.arrived.at, call.usage
    requests.add(
        at,
        nan if call.first_at is None else call.first_at - began_at,
        nan if call.outcome == "open" else call.ended_at - began_at,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        place("replica", call.replica) if call.replica else -1,
        place("region", REGION),
        place("region", REGION),
        place("tenant", whole.whose.get(call.key_id, "")),
        place("model", call.arrived.model),
        min(call.attempts, 127),
        _LATER[call.outcome],
        1,
        nan,
        0.0,
    )
