"""A recorded hour's joules: those that were settled live, beside those of the same requests in the twin.

A journal holds what each request took by the meters (``EnergySettled``). The hour is run again as it was recorded,
with step times from the journal or a profile; what each request took there (``parts``) makes joules by the
coefficients of the ledger's step model. These are a profile's, if one is named that holds power: then no request
of the journal is in them. Else they are fitted to the first half of the requests, and the second half, which they
have not seen, is what the difference is told of.

Live, a share is distributed by a model within metered windows, so the difference holds the errors of both.
What the host took beside its devices goes by tokens, as live, at the rate of the first half; power and cooling of
the site as a share on top, which no single request is compared by.

Refused here: money, carbon, and what is nobody's.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

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

#: Requests that a fit needs at the least: four coefficients, twice over.
NEEDED = 8
#: Accounts that a device's step model explains.
_MODELLED = frozenset(ACCOUNT_OF.values())
#: On top of all others, in proportion.
_OVERHEAD = "overhead"


class _Pair(Struct, frozen=True):
    """What a request took, live and in the twin; ``device_j`` is what of it the step model has to explain."""

    settled: EnergySettled
    taken: Parts
    fitted: bool = False

    @property
    def device_j(self) -> float:
        return sum(joules for account, joules in self.settled.accounts.items() if account in _MODELLED)


def compare(question: Question) -> EnergyReport:
    """Run the journal again, and hold its joules against those settled. Errors: BadRequest, DocumentError."""
    settled = settled_in(question.path)
    if not settled:
        said = (
            "no request in this journal has settled joules: no meter saw its engines, or an older version wrote it."
        )
        raise BadRequest(f"{question.path}: {said}", param="path")
    noting = Noting()
    hour = Hour(
        question.crowd(), pace_of(question), Terms(), 0, duration_s=question.outline().duration_s, noting=noting
    )
    Simulation(hour, question.outline(), 0).go(nobody_watches, never)
    taken = noting.finish()
    pairs = [
        _Pair(told, taken[ticket])
        for ticket, told in settled.items()
        if ticket in taken and told.joules > 0.0 and taken[ticket].all_of_it.steps > 0.0
    ]
    known = {
        model: joules
        for model in {pair.taken.model: None for pair in pairs}
        if (joules := _stated(question, model))
    }
    pairs = _halved(pairs, known)
    of = {model: known.get(model) or _fitted(model, pairs) for model in {pair.taken.model: None for pair in pairs}}
    return _report(question, pairs, of, hour, (len(taken.keys() - settled.keys()), len(settled) - len(pairs)))


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


def _halved(pairs: Sequence[_Pair], known: Mapping[str, ModelJoules]) -> list[_Pair]:
    """Of each model without known coefficients, the first half of the requests to fit, as they were settled."""
    found: list[_Pair] = []
    for model in {pair.taken.model: None for pair in pairs}:
        mine = [pair for pair in pairs if pair.taken.model == model]
        if model in known:
            found += mine
            continue
        if len(mine) < NEEDED:
            raise BadRequest(
                f"Only {len(mine)} requests of {model} have joules in this journal, too few to tell from what its"
                " steps take: name a profile that 'underlay calibrate' wrote where a meter saw the engine.",
                param="profile",
            )
        half = len(mine) // 2
        found += [_Pair(pair.settled, pair.taken, fitted=place < half) for place, pair in enumerate(mine)]
    return found


def _fitted(model: str, pairs: Sequence[_Pair]) -> ModelJoules:
    learnt = [pair for pair in pairs if pair.fitted and pair.taken.model == model and pair.device_j > 0.0]
    found = fitted([(pair.taken.all_of_it, pair.device_j) for pair in learnt], "calibrated").model.coefficients
    return ModelJoules(model, *found, "calibrated", f"fitted to the first {len(learnt):,} settled requests")


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
    question: Question, pairs: Sequence[_Pair], of: Mapping[str, ModelJoules], hour: Hour, missed: tuple[int, int]
) -> EnergyReport:
    learnt = [pair for pair in pairs if pair.fitted]
    rates, over = _rates(learnt), _overhead(learnt)
    twins = [_accounts(pair, of[pair.taken.model], rates, over) for pair in pairs]
    requests = [
        RequestJoules(
            pair.settled.ticket,
            pair.taken.model,
            sum(joules for account, joules in pair.settled.accounts.items() if account in _MODELLED | rates.keys()),
            sum(joules for account, joules in twin.items() if account != _OVERHEAD),
            not pair.fitted,
        )
        for pair, twin in zip(pairs, twins, strict=True)
    ]
    proof = sorted(request.off for request in requests if request.held_out)
    seen = [request.off for request in requests if not request.held_out]
    whole = survey(question.path)
    begin_s, end_s = whole.header.begun_at, whole.begin_at + whole.end_s
    return EnergyReport(
        path=str(question.path),
        begin_s=begin_s,
        end_s=end_s,
        idle_joules=_idle_j(question, hour, end_s - begin_s),
        compared=len(proof),
        median_off=statistics.median(proof),
        p90_off=proof[min(len(proof) - 1, int(0.9 * len(proof)))],
        accounts=_differences([(p, t) for p, t in zip(pairs, twins, strict=True) if not p.fitted]),
        coefficients=tuple(of.values()),
        in_sample_median_off=statistics.median(seen) if seen else None,
        unsettled=missed[0],
        unmatched=missed[1],
        warnings=tuple(hour.all_warnings()),
        requests=tuple(requests),
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


def _accounts(pair: _Pair, of: ModelJoules, rates: Mapping[str, float], over: float | None) -> dict[str, float]:
    """The twin's joules of a request, by account."""
    model = Coefficients(of.step_j, of.pflop_j, of.token_j, of.kv_gb_j)
    found = {account: model.joules(sums) for account, sums in pair.taken.accounts.items()}
    found |= {account: rate * pair.taken.tokens for account, rate in rates.items()}
    return found if over is None else found | {_OVERHEAD: over * sum(found.values())}


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
