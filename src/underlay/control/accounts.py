"""What may this key use of this model, all told?

Decided from the limits and budgets of up to four accounts that a request counts against: its key, its user, its
tenant and its model. It is counted against all of them or, refused by one, against none. Everything is reserved
when a request is let in, and settled once when it ends; whatever a meter or purse holds is the sum over the
requests that are open, so accounts may get and lose bounds while requests run. It refuses to know prices and
queues, and who may ask at all (``identity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from underlay.domain.joules import microjoules
from underlay.domain.keys import Budget, Key, Limits
from underlay.domain.policy import Account, DeskSettings

from .budgets import Purse, merged
from .events import BudgetSpent, EnergySettled
from .holding import Holding, Reservation
from .limits import Meter

__all__ = ["Accounts", "Guess", "Holding", "Reservation"]

#: A scope (key, user, tenant, model) and a name in it.
Name = tuple[str, str]

_NO_LIMITS = Limits()


class Guess(NamedTuple):
    """What a request was taken to have taken when no meter had told in time, and when that was spent."""

    microjoules: int
    at: float


class Accounts:
    """All accounts: the meters and purses of those that have bounds, and a ``Holding`` per key and model.

    A key that was rotated and the one that replaced it share their purses, or every rotation would be a new
    budget; limits per minute are each key's own.
    """

    def __init__(self, settings: DeskSettings) -> None:
        self._keys: dict[str, Key] = {}
        self._first: dict[str, str] = {}  # of keys that replaced another one: the first of their line
        self._holdings: dict[str, dict[str, Holding]] = {}  # by key id and model
        self._meters: dict[Name, Meter] = {}
        self._purses: dict[Name, tuple[Purse, ...]] = {}
        self._accounts: dict[Name, Account] = {}
        self.configure(settings)

    # What the desk asks for each request.

    def holding(self, key: Key, model: str) -> Holding:
        """What bounds this key with this model. The model must be one that is served: each is remembered."""
        of_key = self._holdings.get(key.id)
        found = of_key.get(model) if of_key is not None else None
        return found if found is not None else self._new_holding(key, model)

    def _new_holding(self, key: Key, model: str) -> Holding:
        if key.id not in self._keys:
            self.key_changed(key)
        made = Holding(key.id, model)
        self._holdings.setdefault(key.id, {})[model] = made
        self._bind(made)
        return made

    def weight(self, tenant: str) -> float:
        """A tenant's part of a busy platform, beside the others'."""
        account = self._accounts.get(("tenant", tenant))
        return account.weight if account is not None else 1.0

    def band(self, key: Key) -> str:
        """The highest class of urgency that a key may ask for: its own, its user's or its tenant's ("": none)."""
        if key.band or not self._accounts:
            return key.band
        for name in (("user", key.user), ("tenant", key.tenant)):
            account = self._accounts.get(name)
            if account is not None and account.band:
                return account.band
        return ""

    def meter(self, key_id: str) -> Meter | None:
        """The limits of a key and what is left of them; ``None`` if it has none."""
        return self._meters.get(("key", key_id))

    # What changes them.

    def configure(self, settings: DeskSettings) -> None:
        """Go on under other settings. What is in use and what was spent stays."""
        was = self._accounts
        self._default = settings.default_limits
        self._accounts = {(account.scope, account.name): account for account in settings.accounts}
        for name in [*was, *self._accounts]:
            account = self._accounts.get(name)
            limits, budgets = (account.limits, account.budgets) if account is not None else (_NO_LIMITS, ())
            self._bound_meter(name, limits)
            self._bound_purses(name, budgets)
        for key in self._keys.values():
            self._bound_meter(("key", key.id), self._limits(key))
        self._bind_all()

    def key_changed(self, key: Key) -> None:
        """Take in a key that was made, changed, replaced or revoked."""
        was = self._keys.get(key.id)
        self._keys[key.id] = key
        self._bound_meter(("key", key.id), self._limits(key))
        self._bound_purses(self._purse_name(key), key.budgets)
        joined = key.replaced_by is not None and self._join(key.id, key.replaced_by)
        if joined or (was is not None and (was.user, was.tenant) != (key.user, key.tenant)):
            self._bind_all()
        elif line := self._line_of(key.id):
            self._count(line)

    def spent(self, event: BudgetSpent) -> None:
        """Take in what an account spent before this run; only the period that is current still counts.

        An account that is not known has no budget. Scope ``key`` means that key and those that it replaced or
        was replaced by, together.
        """
        name = (event.scope, self._first.get(event.name, event.name) if event.scope == "key" else event.name)
        for purse in self._purses.get(name, ()):
            if purse.budget.period == event.period:
                purse.told(event.since, event.pico_usd, event.tokens, event.at, microjoules(event.joules))

    def settled(self, event: EnergySettled, guess: Guess | None = None) -> None:
        """Spend what a request took by its meters, instead of what it was guessed to take.

        By the names in the event: its key may be gone, and its team another one by now. Told twice it counts twice.
        """
        taken, key = microjoules(event.joules), self._keys.get(event.key_id)
        of_key = ("key", self._first.get(event.key_id, event.key_id))
        user = ("user", key.user if key is not None else "")
        for name in (of_key, user, ("tenant", event.tenant), ("model", event.model)):
            for purse in self._purses.get(name, ()):
                purse.spend(0, 0, event.at, taken)
                if guess is not None:
                    purse.take_back(guess.microjoules, guess.at)

    def give_joules_back(self, event: EnergySettled) -> bool:
        """Give back what was reserved for a request that is over; ``False`` if nothing was."""
        holding = self._holdings.get(event.key_id, {}).get(event.model)
        return holding is not None and holding.give_joules_back(event.ticket)

    def _limits(self, key: Key) -> Limits:
        """A key's own limits; where it has none, the default ones."""
        own, default = key.limits, self._default
        return Limits(
            default.requests_per_minute if own.requests_per_minute is None else own.requests_per_minute,
            default.tokens_per_minute if own.tokens_per_minute is None else own.tokens_per_minute,
            default.concurrent if own.concurrent is None else own.concurrent,
        )

    def _bound_meter(self, name: Name, limits: Limits) -> None:
        if limits == _NO_LIMITS:
            self._meters.pop(name, None)
        elif name in self._meters:
            self._meters[name].set(limits)
        else:
            self._meters[name] = Meter(limits, _whose(name))

    def _bound_purses(self, name: Name, budgets: tuple[Budget, ...]) -> None:
        if not budgets:
            self._purses.pop(name, None)
            return
        purses = {purse.budget.period: purse for purse in self._purses.get(name, ())}
        bounds = merged(budgets)
        for period, budget in bounds.items():
            if period in purses:
                purses[period].budget = budget
            else:
                purses[period] = Purse(budget, _whose(name))
        self._purses[name] = tuple(purses[period] for period in bounds)

    # Rotated keys.

    def _purse_name(self, key: Key) -> Name:
        return ("key", self._first.get(key.id, key.id))

    def _join(self, old: str, new: str) -> bool:
        """Let the key ``new`` go on with the purses of the key it replaced; ``False`` if it does already."""
        first, other = self._first.get(old, old), self._first.get(new, new)
        if first == other:
            return False
        for key_id in [new, *(key_id for key_id, begun in self._first.items() if begun == other)]:
            self._first[key_id] = first
        kept = {purse.budget.period: purse for purse in self._purses.get(("key", first), ())}
        for purse in self._purses.pop(("key", other), ()):
            kept.setdefault(purse.budget.period, purse)
            if kept[purse.budget.period] is not purse:
                kept[purse.budget.period].absorb(purse)
        if kept:
            self._purses["key", first] = tuple(kept.values())
        return True

    def _line_of(self, key_id: str) -> list[Holding]:
        """The holdings of a key and of those it shares its purses with."""
        first = self._first.get(key_id, key_id)
        line = [first, *(other for other, begun in self._first.items() if begun == first)]
        return [holding for other in line for holding in self._holdings.get(other, {}).values()]

    # Who is bounded by what.

    def _all_holdings(self) -> Iterator[Holding]:
        return (holding for of_key in self._holdings.values() for holding in of_key.values())

    def _bounds(self, holding: Holding) -> tuple[tuple[Meter, ...], tuple[Purse, ...]]:
        key = self._keys[holding.key_id]
        shared = (("user", key.user), ("tenant", key.tenant), ("model", holding.model))
        meters = [self._meters.get(name) for name in (("key", key.id), *shared)]
        purses = [purse for name in (self._purse_name(key), *shared) for purse in self._purses.get(name, ())]
        return tuple(meter for meter in meters if meter is not None), tuple(purses)

    def _bind(self, holding: Holding) -> None:
        holding.bind(*self._bounds(holding))

    def _bind_all(self) -> None:
        """Bind every holding afresh, and count afresh what is open."""
        for meter in self._meters.values():
            meter.open_requests = 0
        for purses in self._purses.values():
            for purse in purses:
                purse.reserved_tokens = purse.reserved_pico_usd = purse.reserved_microjoules = 0
        for holding in self._all_holdings():
            meters, purses = self._bounds(holding)
            holding.bind(meters, purses)
            for meter in meters:
                meter.open_requests += len(holding.open)
            for purse in purses:
                for held in holding.open:
                    purse.reserve(held.tokens, held.pico_usd)
                purse.reserve(0, 0, holding.held_microjoules())

    def _count(self, line: list[Holding]) -> None:
        """Bind the holdings of one line of keys afresh, and count afresh what only they use."""
        for holding in line:
            self._bind(holding)
        for key_id in dict.fromkeys(holding.key_id for holding in line):
            meter = self._meters.get(("key", key_id))
            if meter is not None:
                meter.open_requests = sum(len(holding.open) for holding in self._holdings[key_id].values())
        for purse in self._purses.get(self._purse_name(self._keys[line[0].key_id]), ()):
            held = [held for holding in line for held in holding.open]
            purse.reserved_tokens = sum(each.tokens for each in held)
            purse.reserved_pico_usd = sum(each.pico_usd for each in held)
            purse.reserved_microjoules = sum(holding.held_microjoules() for holding in line)

    def check(self, open_requests: Mapping[str, int], reservations: Iterable[tuple[Key, str, Reservation]]) -> None:
        """Verify against the desk's own count that what is held is what runs; raises ``AssertionError``."""
        open_here = {(holding.key_id, holding.model): set(holding.open) for holding in self._all_holdings()}
        running: dict[Name, set[Reservation]] = {name: set() for name in open_here}
        for key, model, held in reservations:
            running.setdefault((key.id, model), set()).add(held)
        assert running == open_here, "reservations are held that nothing runs for, or the other way round"
        counted = {key_id: sum(len(h.open) for h in of.values()) for key_id, of in self._holdings.items()}
        for key_id in {**counted, **open_requests}:
            assert counted.get(key_id, 0) == open_requests.get(key_id, 0), f"{key_id}: open requests differ"
        self._check_sums()

    def _check_sums(self) -> None:
        open_requests: dict[int, int] = {}
        tokens: dict[int, int] = {}
        pico_usd: dict[int, int] = {}
        joules: dict[int, int] = {}
        for holding in self._all_holdings():
            for meter in holding.meters:
                open_requests[id(meter)] = open_requests.get(id(meter), 0) + len(holding.open)
            for purse in holding.purses:
                tokens[id(purse)] = tokens.get(id(purse), 0) + sum(held.tokens for held in holding.open)
                pico_usd[id(purse)] = pico_usd.get(id(purse), 0) + sum(held.pico_usd for held in holding.open)
                joules[id(purse)] = joules.get(id(purse), 0) + holding.held_microjoules()
        for meter in self._meters.values():
            assert meter.open_requests == open_requests.get(id(meter), 0), f"{meter.whose} open requests"
        for purses in self._purses.values():
            for purse in purses:
                assert purse.reserved_tokens == tokens.get(id(purse), 0), f"{purse.whose} reserved tokens"
                assert purse.reserved_pico_usd == pico_usd.get(id(purse), 0), f"{purse.whose} reserved money"
                assert purse.reserved_microjoules == joules.get(id(purse), 0), f"{purse.whose} reserved joules"
                spent = min(purse.spent_tokens, purse.spent_pico_usd, purse.spent_microjoules)
                assert spent >= 0, f"{purse.whose} spent is negative"


def _whose(name: Name) -> str:
    scope, called = name
    return "this key's" if scope == "key" else f"{'team' if scope == 'tenant' else scope} {called}'s"
