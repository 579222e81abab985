"""A recorded hour's joules: those that were settled live, beside those of the same requests in the twin.

A journal holds what each request took by the meters (``EnergySettled``). The hour is run again as it was recorded,
with step times from the journal or a profile; what each request took there (``parts``) makes joules by the
coefficients of the ledger's step model. These are a profile's, if one is named that holds power: then no request
of the journal is in them. Else they are fitted: to every second request for the others, and to those for it, so
that no request is told by coefficients that have seen it. Halves are interleaved as a machine's joules drift over
an hour, and live begins with a step model that has yet to learn: with the first half fitted and the second told,
that counted as a difference between live and twin. What the split cannot show is how well another hour is told.

Live, a share is distributed by a model within metered windows, so the difference holds the errors of both.
What the host took beside its devices goes by tokens, as live, at the rate of the other half; power and cooling of
the site as a share on top, which no single request is compared by.

Refused here: money, carbon, and what is nobody's.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from underlay.control.events import EnergySettled
from underlay.domain.errors import BadRequest
from underlay.ledger.attribution import ACCOUNT_OF
from underlay.ledger.priors import fitted
from underlay.ledger.step_energy import Coefficients
from underlay.physics import profiles
from underlay.physics.step_power import StepPower
from underlay.twin.crowd.journal.reading import opened
from underlay.twin.crowd.journal.survey import survey
from underlay.twin.simulation import Simulation, never, nobody_watches

from .energy_report import AccountDifference, EnergyReport, ModelJoules, RequestJoules
from .hour import Hour, Terms
from .parts import Noting, Parts
from .profiles import EVERY
from .what_if import Question, pace_of

#: Requests that are needed at the least: four coefficients, twice over.
NEEDED = 8
#: Accounts that a device's step model explains.
_MODELLED = frozenset(ACCOUNT_OF.values())
#: On top of all others, in proportion.
_OVERHEAD = "overhead"


class _Pair(NamedTuple):
    """What a request took, live and in the twin; ``half`` is the one of two that it is in."""

    settled: EnergySettled
    taken: Parts
    half: int

    @property
    def device_j(self) -> float:
        """What of it the step model has to explain."""
        return sum(joules for account, joules in self.settled.accounts.items() if account in _MODELLED)


class _Learnt(NamedTuple):
    """What some requests teach: joules by what a step holds, of each token by account, and of overhead."""

    models: Mapping[str, ModelJoules]
    rates: Mapping[str, float]
    over: float | None


def compare(question: Question) -> EnergyReport:
    """Run the journal again, and hold its joules against those settled. Errors: BadRequest, DocumentError."""
    settled = settled_in(question.path)
    if not settled:
        raise _nothing(question)
    noting = Noting()
    hour = Hour(
        question.crowd(), pace_of(question), Terms(), 0, duration_s=question.outline().duration_s, noting=noting
    )
    Simulation(hour, question.outline(), 0).go(nobody_watches, never)
    taken = noting.finish()
    pairs = _paired(settled, taken)
    if not pairs:
        raise _nothing(question)
    models = dict.fromkeys(pair.taken.model for pair in pairs)
    stated = {model: joules for model in models if (joules := _stated(question, model))}
    learnt = _learnt(pairs, stated)
    return _report(question, pairs, learnt, hour, (len(taken.keys() - settled.keys()), len(settled) - len(pairs)))


def _nothing(question: Question) -> BadRequest:
    said = "no request in this journal has settled joules: no meter saw its engines, or an older version wrote it."
    return BadRequest(f"{question.path}: {said}", param="path")


def _paired(settled: Mapping[str, EnergySettled], taken: Mapping[str, Parts]) -> list[_Pair]:
    """The requests that took something both live and in the twin, of each model every second in either half."""
    pairs: list[_Pair] = []
    counts: Counter[str] = Counter()
    for ticket, told in settled.items():
        if ticket not in taken or taken[ticket].all_of_it.steps <= 0.0:
            continue
        pair = _Pair(told, taken[ticket], counts[taken[ticket].model] % 2)
        if pair.device_j > 0.0:
            counts[pair.taken.model] += 1
            pairs.append(pair)
    return pairs


def settled_in(path: Path) -> dict[str, EnergySettled]:
    """What the journal says each request took, by ticket. Errors: BadRequest."""
    with opened(path) as (_, entries):
        return {event.ticket: event for entry in entries if isinstance(event := entry.event, EnergySettled)}


def _stated(question: Question, model: str) -> ModelJoules | None:
    """The coefficients of the profile that is named for a model, if it is a file with power in it."""
    power = _power(question, model)
    if power is None:
        return None
    of = power.joules
    return ModelJoules(
        model,
        of.step_j,
        of.pflop_j,
        of.token_j,
        of.kv_gb_j,
        power.method,
        f"{_file(question, model).name}, {power.meter}",
    )


def _power(question: Question, model: str) -> StepPower | None:
    """What the profile that is named for a model says of power, if it is a file with any in it."""
    path = _file(question, model)
    return profiles.read(path).power if path.is_file() else None


def _file(question: Question, model: str) -> Path:
    named = dict(question.profiles)
    return Path(named.get(model) or named.get(EVERY) or "")


def _learnt(pairs: Sequence[_Pair], stated: Mapping[str, ModelJoules]) -> tuple[_Learnt, _Learnt, _Learnt]:
    """What either half has to be told by, as the other one teaches it; and what both teach together."""
    unknown = [pair for pair in pairs if pair.taken.model not in stated]
    for model, count in Counter(pair.taken.model for pair in unknown).items():
        if count < NEEDED:
            raise BadRequest(
                f"Only {count} requests of {model} have joules in this journal, too few to tell from what its"
                " steps take: name a profile that 'underlay calibrate' wrote where a meter saw the engine.",
                param="profile",
            )
    second = _learnt_from([pair for pair in unknown if pair.half == 1], stated)
    first = _learnt_from([pair for pair in unknown if pair.half == 0], stated)
    return second, first, _learnt_from(unknown, stated)


def _learnt_from(pairs: Sequence[_Pair], stated: Mapping[str, ModelJoules]) -> _Learnt:
    models = dict.fromkeys(pair.taken.model for pair in pairs)
    fits = {model: _fitted(model, [pair for pair in pairs if pair.taken.model == model]) for model in models}
    return _Learnt({**stated, **fits}, _rates(pairs), _overhead(pairs))


def _fitted(model: str, pairs: Sequence[_Pair]) -> ModelJoules:
    found = fitted([(pair.taken.all_of_it, pair.device_j) for pair in pairs], "calibrated").model.coefficients
    # Least relative squares lean to those that read low where joules scatter; all together take what they took.
    level = sum(pair.device_j for pair in pairs) / sum(found.joules(pair.taken.all_of_it) for pair in pairs)
    step_j, pflop_j, token_j, kv_gb_j = (value * level for value in found)
    source = f"fitted to {len(pairs):,} settled requests"
    return ModelJoules(model, step_j, pflop_j, token_j, kv_gb_j, "calibrated", source)


def _idle_j(question: Question, hour: Hour, seconds: float) -> float | None:
    """What the replicas draw idle, by their profiles, in the time in which they compute nothing."""
    joules = 0.0
    for replica in hour.platform.replicas.values():
        power = _power(question, replica.model)
        if power is None or power.idle_w is None:
            return None
        joules += power.idle_w * max(0.0, seconds - replica.busy_s)
    return joules


def _report(
    question: Question,
    pairs: Sequence[_Pair],
    learnt: tuple[_Learnt, _Learnt, _Learnt],
    hour: Hour,
    missed: tuple[int, int],
) -> EnergyReport:
    whole = learnt[-1]
    twins = [_accounts(pair, learnt[pair.half]) for pair in pairs]
    requests = [_request(pair, twin, whole.rates) for pair, twin in zip(pairs, twins, strict=True)]
    off = sorted(request.off for request in requests)
    recorded = survey(question.path)
    begin_s, end_s = recorded.header.begun_at, recorded.begin_at + recorded.end_s
    return EnergyReport(
        path=str(question.path),
        begin_s=begin_s,
        end_s=end_s,
        idle_joules=_idle_j(question, hour, end_s - begin_s),
        compared=len(requests),
        median_off=statistics.median(off),
        p90_off=off[min(len(off) - 1, int(0.9 * len(off)))],
        accounts=_differences(list(zip(pairs, twins, strict=True))),
        coefficients=tuple(whole.models.values()),
        unsettled=missed[0],
        unmatched=missed[1],
        warnings=tuple(hour.all_warnings()),
        requests=tuple(requests),
    )


def _request(pair: _Pair, twin: Mapping[str, float], rates: Mapping[str, float]) -> RequestJoules:
    return RequestJoules(
        pair.settled.ticket,
        pair.taken.model,
        sum(joules for account, joules in pair.settled.accounts.items() if account in _MODELLED | rates.keys()),
        sum(joules for account, joules in twin.items() if account != _OVERHEAD),
    )


def _rates(learnt: Sequence[_Pair]) -> dict[str, float]:
    """Joules for each token of accounts that go by tokens."""
    tokens = sum(pair.taken.tokens for pair in learnt)
    sums: dict[str, float] = {}
    for pair in learnt:
        for account, joules in pair.settled.accounts.items():
            if account not in _MODELLED and account != _OVERHEAD:
                sums[account] = sums.get(account, 0.0) + joules
    return {account: joules / tokens for account, joules in sums.items() if tokens}


def _overhead(learnt: Sequence[_Pair]) -> float | None:
    """Joules of power and cooling for each one of the rest; None where none is told."""
    told = [pair.settled.accounts for pair in learnt if _OVERHEAD in pair.settled.accounts]
    over_j = sum(accounts[_OVERHEAD] for accounts in told)
    rest_j = sum(sum(accounts.values()) for accounts in told) - over_j
    return over_j / rest_j if rest_j else None


def _accounts(pair: _Pair, learnt: _Learnt) -> dict[str, float]:
    """The twin's joules of a request, by account."""
    of = learnt.models[pair.taken.model]
    model = Coefficients(of.step_j, of.pflop_j, of.token_j, of.kv_gb_j)
    found = {account: model.joules(sums) for account, sums in pair.taken.accounts.items()}
    found |= {account: rate * pair.taken.tokens for account, rate in learnt.rates.items()}
    return found if learnt.over is None else found | {_OVERHEAD: learnt.over * sum(found.values())}


def _differences(compared: Sequence[tuple[_Pair, Mapping[str, float]]]) -> tuple[AccountDifference, ...]:
    live: dict[str, float] = {}
    twin: dict[str, float] = {}
    for pair, accounts in compared:
        for sums, told in ((live, pair.settled.accounts), (twin, accounts)):
            for account, joules in told.items():
                sums[account] = sums.get(account, 0.0) + joules
    names = sorted(live.keys() | twin.keys())
    return tuple(
        AccountDifference(
            account,
            live.get(account, 0.0),
            twin.get(account, 0.0) if account in _MODELLED or account in twin else None,
        )
        for account in names
    )
