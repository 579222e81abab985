"""One request's claims on everything that bounds it: taken all together, or none of them; given back once.

Decided from the meters (``limits``) and purses (``budgets``) that a key has with a model; ``accounts`` says which
those are. It refuses to know names, prices and what runs.
"""

from __future__ import annotations

from .budgets import Purse
from .limits import Meter, Receipt


class Reservation:
    """What one open request has reserved, in tokens and pico-dollars; ``Holding.extend`` makes it more.

    ``receipts`` is what its tokens were taken from, for correcting them.
    """

    __slots__ = ("pico_usd", "receipts", "tokens")

    def __init__(self, tokens: int, pico_usd: int, receipts: list[Receipt] | None = None) -> None:
        self.tokens = tokens
        self.pico_usd = pico_usd
        self.receipts = receipts


class Holding:
    """Everything that bounds one key with one model: mostly nothing, and then it costs next to nothing.

    ``open`` are its requests that have been let in and have not ended, in that order; ``capped`` says whether
    any budget bounds them.
    """

    __slots__ = ("_bounded", "capped", "key_id", "meters", "model", "open", "purses")

    def __init__(self, key_id: str, model: str) -> None:
        self.key_id = key_id
        self.model = model
        self.open: dict[Reservation, None] = {}
        self.bind((), ())

    def bind(self, meters: tuple[Meter, ...], purses: tuple[Purse, ...]) -> None:
        """Be bounded by these from now on; that they count what is open is for ``Accounts`` to see to."""
        self.meters = meters
        self.purses = purses
        self._bounded = bool(meters or purses)
        self.capped = bool(purses)

    def admit(self, tokens: int, pico_usd: int, at: float) -> Reservation:
        """Count a request in, reserving what it may take.

        Raises ``LimitReached`` or ``BudgetExhausted``, and then nothing is counted anywhere.
        """
        held = Reservation(tokens, pico_usd)
        if self._bounded:
            self._reserve(held, at)
        self.open[held] = None
        return held

    def check(self, tokens: int, pico_usd: int, at: float) -> None:
        """Raise what ``admit`` would raise, and count nothing."""
        for meter in self.meters:
            meter.check(tokens, at)
        for purse in self.purses:
            if not purse.fits(tokens, pico_usd, at):
                raise purse.exhausted(tokens, pico_usd, at)

    def _reserve(self, held: Reservation, at: float) -> None:
        tokens, pico_usd = held.tokens, held.pico_usd
        self.check(tokens, pico_usd, at)
        for meter in self.meters:  # from here on nothing can be refused
            receipt = meter.take(tokens, at)
            if receipt is not None:
                held.receipts = [receipt] if held.receipts is None else [*held.receipts, receipt]
        for purse in self.purses:
            purse.reserve(tokens, pico_usd)

    def extend(self, held: Reservation, tokens: int, pico_usd: int, at: float) -> bool:
        """Reserve more for an answer that is longer than was reserved; ``False`` if a budget forbids it.

        Limits per minute do not: the request was let in, and those that follow wait the longer for it.
        """
        assert held in self.open, "more was reserved for a request that is not open"
        for purse in self.purses:
            if not purse.fits(tokens, pico_usd, at):
                return False
        for purse in self.purses:
            purse.reserve(tokens, pico_usd)
        if held.receipts is not None:
            held.receipts = [receipt[0].take_more(receipt, tokens, at) for receipt in held.receipts]
        held.tokens += tokens
        held.pico_usd += pico_usd
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
            purse.reserve(-held.tokens, -held.pico_usd)
            purse.spend(tokens, pico_usd, at)
