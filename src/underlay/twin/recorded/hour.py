"""A recorded hour, decided again: the journal's callers, its fleet and its keys at one modelled platform.

The desk is told what the live one was told, at the same times: the same keys, settings and requests, in bytes and
tokens. Only the engines are modelled, and what follows from them is decided anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from msgspec import structs

from underlay.control.budgets import period_start
from underlay.control.effects import Dispatch
from underlay.control.events import Arrived, BudgetSpent, KeyChanged, ReplicaDraining, ReplicaLost, SettingsChanged
from underlay.domain.policy import DeskSettings
from underlay.twin.callers import Callers
from underlay.twin.crowd.call import Call, Outcome
from underlay.twin.crowd.journal.crowd import Journal, Origin
from underlay.twin.crowd.journal.survey import survey
from underlay.twin.crowd.links import mix
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.exchange import Exchange
from underlay.twin.kernel import Kernel
from underlay.twin.modelled import Modelled
from underlay.twin.platform import Platform
from underlay.twin.records import Account

from .fleet import Moment, Standing, recorded
from .parts import Noting, Sharing
from .profiles import Pace
from .settings import varied

REGION = "recorded"
#: What one link of a prompt stands for: a block of paged engines. A digest of the journal stands for some 32.
LINK_TOKENS = 16
#: Prompts' tokens in one step: of the llama.cpp that Underlay starts (n_batch), and vLLM's usual.
_SLOTTED_STEP_TOKENS, _PAGED_STEP_TOKENS = 512, 8192
_BLOCK_TOKENS = 16
#: Underlay gives a prompt the slot of its own conversation, else the one unused for longest: whoever begins like
#: half of the prompt is taken to be the same conversation. llama.cpp by itself asks for a tenth.
_SIMILARITY = 0.5
#: Changes come before calls at the same time.
_BEFORE_CALLS = -2


class Terms(NamedTuple):
    """What is otherwise than recorded: settings of the desk, replicas of each model, times as many calls."""

    settings: tuple[tuple[str, str], ...] = ()
    replicas: int | None = None
    times: float = 1.0


class Hour:
    """The world of a what-if: between two times of a journal (seconds from its first call), on other terms.

    ``noting`` is told what every request took, for its joules. Errors: BadRequest, DocumentError.
    """

    def __init__(
        self,
        crowd: Journal,
        paces: Mapping[str, Pace],
        terms: Terms,
        seed: int,
        *,
        duration_s: float,
        noting: Noting | None = None,
    ) -> None:
        self.kernel = Kernel(seed)
        self._whole = whole = survey(crowd.path)
        self._paces = paces
        self._terms = terms
        self._start_s = crowd.start_s
        self._crowd = structs.replace(crowd, times=terms.times, link_tokens=LINK_TOKENS)
        self._seed = seed
        self._noting = noting
        self.happened: list[tuple[float, str]] = []
        self.platform = _Platform(
            self.kernel,
            self._settings(whole.header.settings),
            {},
            self._ended,
            name=REGION,
            link_tokens=LINK_TOKENS,
        )
        self.platform.noting = noting
        self.platforms: dict[str, Platform] = {REGION: self.platform}
        self._fleet(recorded(whole, terms.replicas))
        self._changes()
        door = _Door({model: pace.beside_s / 2.0 for model, pace in paces.items()})
        self.callers = Callers(
            self.kernel, self.platforms, [self._crowd], door, duration_s=duration_s, model=next(iter(whole.models))
        )
        for name in self.platform.replicas:
            self.callers.requests.place("replica", name)

    def _settings(self, settings: DeskSettings) -> DeskSettings:
        """As recorded, but for what is changed; other dice for other seeds."""
        changed = varied(settings, self._terms.settings)
        return structs.replace(changed, seed=changed.seed + self._seed)

    def _fleet(self, standings: Sequence[Standing]) -> None:
        contexts = {policy.name: policy.context_tokens for policy in self._whole.header.settings.models}
        for place, standing in enumerate(standings):
            pace = self._paces.get(standing.model)
            if pace is None or standing.model not in contexts:
                continue  # nobody asked for its model
            seen = self._whole.models.get(standing.model)
            opening_tokens = seen.opening_tokens() if seen is not None else 0
            rules = rules_of(standing, contexts[standing.model], pace.engine, opening_tokens)
            times = pace.coefficients
            kind = Modelled if self._noting is None else Sharing
            self.platform.add(kind(standing.name, standing.model, rules, times, place=place))
            for at, moment in _standing_at(standing.moments, self._start_s):
                self.kernel.call(at, self._befall, moment, _BEFORE_CALLS)

    def _changes(self) -> None:
        """Keys, settings and what had been spent: those from before the run hold from its beginning."""
        for at, change in self._whole.changes:
            if not isinstance(change, Moment):
                self.kernel.call(max(0.0, at - self._start_s), self._change, change, _BEFORE_CALLS)

    def _befall(self, at: float, moment: Moment) -> None:
        name = moment.replica
        if isinstance(moment, ReplicaLost):
            self.platform.lose(at, name, moment.cause)
            self.happened.append((at, f"{name} was lost: {moment.cause}"))
        elif isinstance(moment, ReplicaDraining):
            self.platform.drain(at, name, wanted=not moment.drain)
            self.happened.append((at, f"{name} was {'drained' if moment.drain else 'wanted again'}"))
        else:
            self.platform.start(at, name)
            if at > 0.0:
                self.happened.append((at, f"{name} became ready"))

    def _change(self, at: float, change: KeyChanged | BudgetSpent | SettingsChanged) -> None:
        """Tell the desk, in the run's own time."""
        zero_at = self._whole.begin_at + self._start_s
        match change:
            case KeyChanged():
                key = change.key
                ends = {
                    name: None if (when := getattr(key, name)) is None else when - zero_at
                    for name in ("expires_s", "revoked_s")
                }
                self.platform.tell(at, KeyChanged(at, structs.replace(key, **ends)))
            case BudgetSpent():
                if change.since == period_start(change.period, zero_at + at):  # type: ignore[arg-type]
                    since = period_start(change.period, at)  # type: ignore[arg-type]
                    self.platform.tell(at, structs.replace(change, at=at, since=since))
            case SettingsChanged():
                self.platform.tell(at, SettingsChanged(at, self._settings(change.settings)))

    def _ended(self, platform: Platform, exchange: Exchange, outcome: Outcome, at: float) -> None:
        if self._noting is not None:
            self._noting.ended(exchange, outcome)
        self.callers.ended(platform, exchange, outcome, at)

    def check(self) -> None:
        """Verify the platform; raises ``AssertionError``."""
        self.platform.check()

    def sample(self) -> dict[str, float]:
        """Nothing is known of what stands beside the platform."""
        return {}

    def accounts(self) -> list[Account]:
        """A journal knows neither power nor what machines cost."""
        return []

    def ledger(self) -> None:
        """Nor what a request took: ``noting`` is told what there is."""
        return

    def places(self) -> list[Account]:
        """Nor where they stand."""
        return []

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the replicas."""
        return self.happened

    def all_warnings(self) -> list[str]:
        """What to distrust."""
        said = [
            f"{model}: steps are {pace.method}, {pace.source}; off by {pace.decode_off:.0%} (decode) and"
            f" {pace.prefill_off:.0%} (prefill) on average."
            for model, pace in self._paces.items()
        ]
        said += [warning for pace in self._paces.values() for warning in pace.warnings]
        if self._bounded_in_joules():
            said.append("budgets in joules count what was spent before the run only: replicas here have no meter.")
        return [*said, *self._crowd.warnings()]

    def _bounded_in_joules(self) -> bool:
        budgets = [budget for account in self._whole.header.settings.accounts for budget in account.budgets]
        for _, change in self._whole.changes:
            if isinstance(change, KeyChanged):
                budgets += change.key.budgets
        return any(budget.joules is not None for budget in budgets)


class _Platform(Platform):
    """A platform whose desk is told of calls as the live one was. ``noting`` hears of attempts, if it is there."""

    noting: Noting | None = None

    def _dispatch(self, at: float, effect: Dispatch) -> None:
        super()._dispatch(at, effect)
        if self.noting is not None:
            self.noting.dispatched(self, effect)

    def _arrived(self, at: float, ticket: str, call: Call) -> Arrived:
        origin = call.more
        assert isinstance(origin, Origin)
        was, copy = origin.call.arrived, origin.copy
        blocks = tuple([mix(block, copy) for block in was.blocks]) if copy else was.blocks
        return structs.replace(was, at=at, ticket=ticket, blocks=blocks, session=call.session, idempotency=("", ""))


class _Door:
    """The one platform is always up; what requests take beside their steps lies on the way there and back."""

    def __init__(self, ways_s: Mapping[str, float]) -> None:
        self._ways_s = ways_s

    def choose(self, place: str, model: str) -> tuple[str, float] | None:
        """The platform."""
        return place, self._ways_s.get(model, 0.0)


def rules_of(
    standing: Standing, context_tokens: int, engine: str, opening_tokens: int = 0
) -> PagedRules | SlotRules:
    """By what rules a replica works, from its slots and caches.

    ``opening_tokens`` are what most prompts found in a cache: the template's, which every slot keeps.

    llama.cpp, as Underlay starts it, keeps a whole context for each slot; whoever says otherwise has pages. Where
    it is not said how much it caches, it is taken to have room for all its slots, and no prefix cache.
    """
    slots, cache_tokens = standing.slots, standing.cache_tokens
    if engine == "llama.cpp" or (not engine and cache_tokens == slots * context_tokens):
        step_tokens = max(_SLOTTED_STEP_TOKENS, slots + 1)
        return SlotRules(slots, context_tokens, step_tokens, LINK_TOKENS, _SIMILARITY, opening_tokens)
    return PagedRules(
        blocks=max(1, (cache_tokens or slots * context_tokens) // _BLOCK_TOKENS),
        max_sequences=slots,
        step_tokens=max(_PAGED_STEP_TOKENS, slots + 1),
        block_tokens=_BLOCK_TOKENS,
        context_tokens=context_tokens,
        prefix_caching=cache_tokens > 0,
        link_tokens=LINK_TOKENS,
    )


def _standing_at(moments: Sequence[tuple[float, Moment]], start_s: float) -> list[tuple[float, Moment]]:
    """What befalls a replica from ``start_s`` on, and before that only what still holds then, at 0."""
    before = [moment for at, moment in moments if at <= start_s]
    lost = [place for place, moment in enumerate(before) if isinstance(moment, ReplicaLost)]
    holds = before[lost[-1] + 1 :] if lost else before
    after = [(at - start_s, moment) for at, moment in moments if start_s < at < inf]
    return [*((0.0, moment) for moment in holds), *after]
