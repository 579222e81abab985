"""One request's claims on everything that bounds it: taken all together, or none of them; given back once.

Decided from the meters (``limits``) and purses (``budgets``) that a key has with a model; ``accounts`` says which
those are. It refuses to know names, prices and what runs.
"""

from __future__ import annotations

from .budgets import Purse
from .limits import Meter, Receipt


class Reservation:
    """What one open request has reserved: tokens, pico-dollars and microjoules; ``Holding.extend`` makes it more.

    ``receipts`` is what its tokens were taken from, for correcting them; ``metered`` whether its meter has told
    already, so that no joules are reserved for it any more.
    """

    __slots__ = ("metered", "microjoules", "pico_usd", "receipts", "tokens")

    def __init__(
        self, tokens: int, pico_usd: int, receipts: list[Receipt] | None = None, microjoules: int = 0
    ) -> None:
        self.tokens = tokens
        self.pico_usd = pico_usd
        self.receipts = receipts
        self.microjoules = microjoules
        self.metered = False


class Unsettled:
    """What stays reserved of a request that is over while its meter has not told; at most until ``until``."""

    __slots__ = ("holding", "microjoules", "ticket", "until")

    def __init__(self, holding: Holding, ticket: str, microjoules: int, until: float) -> None:
        self.holding = holding
        self.ticket = ticket
        self.microjoules = microjoules
        self.until = until

    def stands(self) -> bool:
        """Whether it is still reserved."""
        return self.holding.unsettled.get(self.ticket) is self


class Holding:
    """Everything that bounds one key with one model: mostly nothing, and then it costs next to nothing.

    ``open`` are its requests that have been let in and have not ended, in that order; ``unsettled`` those that
    ended and still hold joules, by ticket. ``capped`` says whether any budget bounds them, ``metered`` whether one
    does so in joules.
    """

    __slots__ = ("_bounded", "capped", "key_id", "metered", "meters", "model", "open", "purses", "unsettled")

    def __init__(self, key_id: str, model: str) -> None:
        self.key_id = key_id
        self.model = model
        self.open: dict[Reservation, None] = {}
        self.unsettled: dict[str, Unsettled] = {}
        self.bind((), ())

    def bind(self, meters: tuple[Meter, ...], purses: tuple[Purse, ...]) -> None:
        """Be bounded by these from now on; that they count what is open is for ``Accounts`` to see to."""
        self.meters = meters
        self.purses = purses
        self._bounded = bool(meters or purses)
        self.capped = bool(purses)
        self.metered = any(purse.budget.joules is not None for purse in purses)

    def admit(self, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> Reservation:
        """Count a request in, reserving what it may take.

        Raises ``LimitReached`` or ``BudgetExhausted``, and then nothing is counted anywhere.
        """
        held = Reservation(tokens, pico_usd, None, microjoules)
        if self._bounded:
            self._reserve(held, at)
        self.open[held] = None
        return held

    def check(self, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> None:
        """Raise what ``admit`` would raise, and count nothing."""
        for meter in self.meters:
            meter.check(tokens, at)
        for purse in self.purses:
            if not purse.fits(tokens, pico_usd, at, microjoules):
                raise purse.exhausted(tokens, pico_usd, at, microjoules)

    def _reserve(self, held: Reservation, at: float) -> None:
        tokens, pico_usd, microjoules = held.tokens, held.pico_usd, held.microjoules
        self.check(tokens, pico_usd, at, microjoules)
        for meter in self.meters:  # from here on nothing can be refused
            receipt = meter.take(tokens, at)
            if receipt is not None:
                held.receipts = [receipt] if held.receipts is None else [*held.receipts, receipt]
        for purse in self.purses:
            purse.reserve(tokens, pico_usd, microjoules)

    def extend(self, held: Reservation, tokens: int, pico_usd: int, at: float, microjoules: int = 0) -> bool:
        """Reserve more for an answer that is longer than was reserved; ``False`` if a budget forbids it.

        Limits per minute do not: the request was let in, and those that follow wait the longer for it.
        """
        assert held in self.open, "more was reserved for a request that is not open"
        for purse in self.purses:
            if not purse.fits(tokens, pico_usd, at, microjoules):
                return False
        for purse in self.purses:
            purse.reserve(tokens, pico_usd, microjoules)
        if held.receipts is not None:
            held.receipts = [receipt[0].take_more(receipt, tokens, at) for receipt in held.receipts]
        held.tokens += tokens
        held.pico_usd += pico_usd
        held.microjoules += microjoules
        return True

    def settle(self, held: Reservation, tokens: int, pico_usd: int, at: float) -> None:
        """Count a request out, once, putting what it used in the place of what it reserved.

        A refund is ``settle(held, 0, 0, at)``. Raises ``KeyError`` if the request is not open.
        """
        del self.open[held]
        if self._bounded:
            self._correct(held, tokens, pico_usd, at)

    def _correct(self, held: Reservation, tokens: int, pico_usd: int, at: float) -> None:
        for meter in self.meters:
            meter.leave()
        for receipt in held.receipts or ():
            receipt[0].correct(receipt, held.tokens, tokens, at)
        for purse in self.purses:
            purse.reserve(-held.tokens, -held.pico_usd, -held.microjoules)
            purse.spend(tokens, pico_usd, at)

    # Joules, which are known only when a request has been over for a while.

    def held_microjoules(self) -> int:
        """All that is reserved here, for requests that are open and for those that wait for their meter."""
        held = sum([held.microjoules for held in self.open])
        return held + sum([kept.microjoules for kept in self.unsettled.values()])

    def keep_joules(self, ticket: str, microjoules: int, until: float) -> Unsettled:
        """Reserve the joules of a request that has just been settled until its meter tells."""
        assert ticket not in self.unsettled, f"{ticket} waits for its meter already"
        kept = self.unsettled[ticket] = Unsettled(self, ticket, microjoules, until)
        self._reserve_joules(microjoules)
        return kept

    def give_joules_back(self, ticket: str) -> bool:
        """Give back, once, what is reserved for a request that is over; ``False`` if nothing is."""
        kept = self.unsettled.pop(ticket, None)
        if kept is not None:
            self._reserve_joules(-kept.microjoules)
        return kept is not None

    def give_up_meter(self, kept: Unsettled, at: float) -> None:
        """Take what is reserved for a request that is over for what it took: no meter has told."""
        self.give_joules_back(kept.ticket)
        for purse in self.purses:
            purse.spend(0, 0, at, kept.microjoules)

    def is_metered(self, held: Reservation) -> None:
        """The meter of an open request has told: reserve no joules for it any more."""
        self._reserve_joules(-held.microjoules)
        held.microjoules = 0
        held.metered = True

    def _reserve_joules(self, microjoules: int) -> None:
        for purse in self.purses:
            purse.reserve(0, 0, microjoules)
