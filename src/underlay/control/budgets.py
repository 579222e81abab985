"""May this request cost what it may cost, in this day, week or month?

Decided from one budget of one account, what was spent of it in the current period, and what the requests that
still run have reserved. Whoever is let in reserves first, so a thousand requests at once cannot all pass on
the same last cent (LiteLLM #34732). Periods are the calendar's in UTC, reckoned from Unix seconds by whole days
(H. Hinnant, "chrono-compatible low-level date algorithms", 2021); so there is no time zone to know and no
reset job that could miss its hour. It refuses to know prices, and how a request's cost is estimated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from underlay.domain.errors import BudgetExhausted
from underlay.domain.joules import MICRO_PER_JOULE, written
from underlay.domain.keys import Budget, Period
from underlay.domain.money import usd

_DAY_S = 86_400
#: When to try again where nobody can know: a request of the same account has to end first.
_OPEN_RETRY_S = 1.0


def period_start(period: Period, at: float) -> float:
    """When the period around ``at`` began, in Unix seconds. Weeks begin on Mondays, ``total`` began in 1970."""
    if period == "total":
        return 0.0
    day = int(at // _DAY_S)
    if period == "week":
        day -= (day + 3) % 7  # the first of January 1970 was a Thursday
    elif period == "month":
        day -= _civil(day)[2] - 1
    return float(day * _DAY_S)


def period_end(period: Period, at: float) -> float:
    """When the next period begins, in Unix seconds; infinity for ``total``."""
    if period == "total":
        return math.inf
    days = {"day": 1, "week": 7, "month": 31}[period]
    after = period_start(period, at) + days * _DAY_S
    return period_start(period, after)  # 31 days after the first of a month is in the next one


def _civil(day: int) -> tuple[int, int, int]:
    """Year, month and day of month of a count of days since 1970; in years that begin in March and eras of 400."""
    era, of_era = divmod(day + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    of_month = of_year - (153 * month + 2) // 5 + 1
    late = month >= 10  # January and February
    return year + era * 400 + late, month - 9 if late else month + 3, of_month


def iso(at: float) -> str:
    """A Unix time in ISO 8601, in UTC, to the second."""
    day, second = divmod(int(at), _DAY_S)
    year, month, of_month = _civil(day)
    return f"{year:04}-{month:02}-{of_month:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def merged(budgets: tuple[Budget, ...]) -> dict[Period, Budget]:
    """One budget per period: the tightest of each bound, for an account may be given several."""
    found: dict[Period, Budget] = {}
    for budget in budgets:
        other = found.get(budget.period, budget)
        found[budget.period] = Budget(
            budget.period,
            _tighter(budget.pico_usd, other.pico_usd),
            _tighter(budget.tokens, other.tokens),
            _tighter_joules(budget.joules, other.joules),
        )
    return found


def _tighter(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _tighter_joules(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class Purse:
    """One budget of one account: what is spent in the period from ``since`` to ``until``, what is reserved.

    Amounts are tokens, pico-dollars and microjoules; all are kept whichever is bounded, so a bound may be added
    later, and all are whole numbers, so that what is reserved and given back adds up to nothing. A period is over
    when an ``at`` beyond its end is seen: what was spent is forgotten, what is reserved stays and is charged to the
    period in which it is settled. A clock that steps back begins no period anew.
    """

    __slots__ = (
        "_before_microjoules",
        "_before_pico_usd",
        "_before_tokens",
        "budget",
        "reserved_microjoules",
        "reserved_pico_usd",
        "reserved_tokens",
        "since",
        "spent_microjoules",
        "spent_pico_usd",
        "spent_tokens",
        "until",
        "whose",
    )

    def __init__(self, budget: Budget, whose: str = "this key's") -> None:
        self.budget = budget
        self.whose = whose
        self.since = self.until = -math.inf
        self.reserved_pico_usd = self.reserved_tokens = self.reserved_microjoules = 0
        self._begin()

    def _begin(self) -> None:
        self.spent_pico_usd = self.spent_tokens = self.spent_microjoules = 0
        # the part of it that was spent before this run
        self._before_pico_usd = self._before_tokens = self._before_microjoules = 0

    def roll(self, at: float) -> None:
        """Begin the period around ``at`` if the last one is over."""
        if at >= self.until:
            self.since, self.until = period_start(self.budget.period, at), period_end(self.budget.period, at)
            self._begin()

    def told(self, since: float, pico_usd: int, tokens: int, at: float, microjoules: int = 0) -> None:
        """Take in what was spent before this run in the period from ``since``, if that is the current one.

        Being told again replaces what was told before: adding it up counted it once per teller (LiteLLM #28247).
        """
        self.roll(at)
        if since == self.since:
            self.spent_pico_usd += pico_usd - self._before_pico_usd
            self.spent_tokens += tokens - self._before_tokens
            self.spent_microjoules += microjoules - self._before_microjoules
            self._before_pico_usd, self._before_tokens = pico_usd, tokens
            self._before_microjoules = microjoules

    def absorb(self, other: Purse) -> None:
        """Take over what another purse spent in the same period; it is not used any more."""
        if other.since > self.since:
            self.since, self.until = other.since, other.until
            self._begin()
        if other.since == self.since:
            self.spent_pico_usd += other.spent_pico_usd
            self.spent_tokens += other.spent_tokens
            self.spent_microjoules += other.spent_microjoules
            self._before_pico_usd += other._before_pico_usd
            self._before_tokens += other._before_tokens
            self._before_microjoules += other._before_microjoules

    def fits(self, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> bool:
        """Whether so much more may be reserved. What costs nothing always may: it can overspend nothing."""
        if at >= self.until:
            self.roll(at)
        budget = self.budget
        money, amount = budget.pico_usd, budget.tokens
        if money is not None and pico_usd and self.spent_pico_usd + self.reserved_pico_usd + pico_usd > money:
            return False
        if amount is not None and tokens and self.spent_tokens + self.reserved_tokens + tokens > amount:
            return False
        return budget.joules is None or not microjoules or not self._lacks_joules(microjoules)

    def _lacks_joules(self, microjoules: int) -> bool:
        bound = self.budget.joules
        more = self.spent_microjoules + self.reserved_microjoules + microjoules
        return bound is not None and more > bound * MICRO_PER_JOULE

    def reserve(self, tokens: int, pico_usd: int, microjoules: int = 0) -> None:
        """Reserve so much, whether or not it ``fits``; negative amounts are given back."""
        self.reserved_tokens += tokens
        self.reserved_pico_usd += pico_usd
        self.reserved_microjoules += microjoules

    def spend(self, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> None:
        """Note what a request used, in the period that is current when that is known."""
        if at >= self.until:
            self.roll(at)
        self.spent_tokens += tokens
        self.spent_pico_usd += pico_usd
        self.spent_microjoules += microjoules

    def take_back(self, microjoules: int, at: float) -> None:
        """It was not spent after all, if it was at ``at`` and in this period."""
        if at >= self.since:
            self.spent_microjoules = max(0, self.spent_microjoules - microjoules)

    # Refusals.

    def exhausted(self, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> BudgetExhausted:
        """The refusal of what does not fit: whose budget, what is left, and when there is more."""
        tight = self._tight(tokens, pico_usd, microjoules)
        name = f"{self.whose} budget of {_amount(tight.bound, tight.unit)} {_per(self.budget.period)}"
        asks = f"this request may take {_amount(tight.wanted, tight.unit)}"
        if tight.wanted > tight.bound:  # at no time whatever
            return BudgetExhausted(f"{asks}, more than {name}; ask for less")
        left = max(0, tight.bound - tight.spent)
        if tight.wanted <= left:
            running = f"{_amount(tight.reserved, tight.unit)} of it reserved by requests that {_doing(tight.unit)}"
            return BudgetExhausted(
                f"{name} has {_amount(left, tight.unit)} left, {running}, and {asks}; wait for one to end",
                retry_after_s=_OPEN_RETRY_S,
            )
        state = f"has {_amount(left, tight.unit)} left and {asks}" if left else "is spent"
        if self.until == math.inf:
            return BudgetExhausted(f"{name} {state}; it does not reset")
        return BudgetExhausted(f"{name} {state}; it resets at {iso(self.until)}", retry_after_s=self.until - at)

    def _tight(self, tokens: int, pico_usd: int, microjoules: int) -> _Tight:
        """The bound that is in the way."""
        money, amount, joules = self.budget.pico_usd, self.budget.tokens, self.budget.joules
        if money is not None and pico_usd and self.spent_pico_usd + self.reserved_pico_usd + pico_usd > money:
            return _Tight(money, self.spent_pico_usd, self.reserved_pico_usd, pico_usd, "USD")
        if amount is not None and tokens and self.spent_tokens + self.reserved_tokens + tokens > amount:
            return _Tight(amount, self.spent_tokens, self.reserved_tokens, tokens, "tokens")
        assert joules is not None, f"{self.whose} budget forbids nothing, and something was refused for it"
        spent, reserved = self.spent_microjoules, self.reserved_microjoules
        return _Tight(int(joules * MICRO_PER_JOULE), spent, reserved, microjoules, "J")


class _Tight(NamedTuple):
    """The bound that a request runs into, in whole units of a purse."""

    bound: int
    spent: int
    reserved: int
    wanted: int
    unit: str


def _amount(amount: int, unit: str) -> str:
    if unit == "J":
        return written(amount / MICRO_PER_JOULE)
    return f"{usd(amount)} USD" if unit == "USD" else f"{amount} tokens"


def _doing(unit: str) -> str:
    return "run or wait for their meter" if unit == "J" else "run"


def _per(period: Period) -> str:
    return "in total" if period == "total" else f"per {period}"
