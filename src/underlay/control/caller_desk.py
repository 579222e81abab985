"""Who asks: their keys and accounts, and what becomes of their open streams when those change or run dry.

Decided here is in which band a request runs, what is set aside for it before it starts, whether a longer answer
gets more, and which streams a revoked key takes with it. ``identity`` says whose key it is, ``accounts`` keeps
the sums. It refuses to know replicas and lines.
"""

from __future__ import annotations

from math import ceil
from typing import Protocol

from underlay.domain.answer import Usage
from underlay.domain.joules import microjoules
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings

from .accounts import Accounts, Guess
from .agenda import Agenda
from .effects import Cut, Effects
from .energy_need import EnergyNeed
from .events import BudgetSpent, EnergySettled, KeyChanged
from .holding import Unsettled
from .ticket import Standing, Ticket

#: What a budget sets aside for an answer without a limit, and again whenever less than the margin is left of it.
#: The margin is twice what a driver lets pass before it reports progress.
LEASE_TOKENS = 256
MARGIN_TOKENS = 64

#: How long the joules of a request that is over stay reserved while its meter has not told. The live accounts tell
#: or lose its last window within 30 s for what was not heard, 5 s for a meter, and a window of some seconds.
METER_S = 120.0
#: So many estimates that count as taken are remembered, to be taken back where a meter tells after all.
_GUESSED_MAX = 1_000

_STANDINGS_MAX = 10_000

#: What requests have in common that stand alike: digests, model, operation, band asked for.
Asked = tuple[tuple[str, ...], str, str, str]


class Office(Protocol):
    """What the callers' desk needs of the desk it is part of."""

    tickets: dict[str, Ticket]
    agenda: Agenda


class CallerDesk:
    """All keys, by digest, and everything that bounds them."""

    def __init__(self, office: Office, settings: DeskSettings) -> None:
        self._office = office
        self.keys: dict[str, Key] = {}
        self.standings: dict[Asked, Standing] = {}
        self.accounts = Accounts(settings)
        self._revoked_from: dict[str, float] = {}  # by key id, where that time is still to come
        self._needs: dict[str, EnergyNeed] = {}  # by model, of those that a meter told of
        self._guessed: dict[tuple[str, str], Guess] = {}  # by key id and ticket, the latest
        self.adopt(settings)

    def adopt(self, settings: DeskSettings) -> None:
        """Decide by these settings from now on."""
        self._bands = {band.name: index for index, band in enumerate(settings.bands)}
        self._band_names = [band.name for band in settings.bands]
        self.standings.clear()
        self._usual_band = self._bands.get("standard", 0)

    # For one request.

    def remember(self, asked: Asked, standing: Standing) -> Standing:
        """Keep it for all that ask alike."""
        if len(self.standings) >= _STANDINGS_MAX:
            self.standings.clear()
        self.standings[asked] = standing
        return standing

    def band(self, key: Key, asked: str) -> tuple[int, str]:
        """The class of urgency and its name: the one asked for, but none above the key's own."""
        highest = self.accounts.band(key)
        own = self._bands.get(highest, self._usual_band) if highest else self._usual_band
        band = own if not asked else max(own, self._bands.get(asked, own))
        return band, self._band_names[band]

    def to_reserve(self, ticket: Ticket) -> tuple[int, int, int]:
        """Tokens, pico-dollars and microjoules that a request under a budget will probably take."""
        arrived = ticket.arrived
        answer = arrived.max_tokens
        if answer is None:  # as long as answers have been lately: those let in should not all be cut in the middle
            answer = max(LEASE_TOKENS, ceil(ticket.model.completion_tokens))
        prompt = ticket.prompt_tokens
        usage = Usage(prompt, 0, answer * arrived.strands)
        need = self._microjoules(ticket, usage) if ticket.holding.metered else 0
        return usage.total_tokens, ticket.standing.tariff.cost_pico_usd(usage), need

    def _microjoules(self, ticket: Ticket, usage: Usage) -> int:
        """What so much will probably take; never nothing, so that a budget that is spent lets nobody in.

        Before a meter has told of any request of the model, one microjoule: nothing is known, and who comes at once
        before that may overspend together.
        """
        need = self._needs.get(ticket.standing.model.name)
        if need is None:
            return 1
        return max(1, microjoules(need.of(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens)))

    def watch(self, ticket: Ticket, at: float) -> Effects:
        """Set aside more for an answer that outgrows what was reserved, or end it where the budget does."""
        usage, price, held = ticket.usage, ticket.standing.tariff, ticket.held
        margin = Usage(usage.prompt_tokens, 0, usage.completion_tokens + MARGIN_TOKENS * ticket.strands)
        limit = ticket.arrived.max_tokens
        if limit is not None:
            most = Usage(usage.prompt_tokens, 0, limit * ticket.strands)
            margin = most if most.completion_tokens < margin.completion_tokens else margin
        short_tokens = margin.total_tokens - held.tokens
        short_pico_usd = price.cost_pico_usd(margin) - held.pico_usd
        short_microjoules, more_microjoules = self._short_of_joules(ticket, margin)
        if (short_tokens <= 0 and short_pico_usd <= 0 and not short_microjoules) or ticket.cut:
            return []
        short_tokens, short_pico_usd = max(0, short_tokens), max(0, short_pico_usd)
        lease = Usage(0, 0, LEASE_TOKENS * ticket.strands if limit is None else 0)
        more_tokens = short_tokens + lease.completion_tokens
        more_pico_usd = short_pico_usd + price.cost_pico_usd(lease)
        extend = ticket.holding.extend
        if extend(held, more_tokens, more_pico_usd, at, more_microjoules) or extend(
            held, short_tokens, short_pico_usd, at, short_microjoules
        ):
            return []  # by a lease, or with what is left of the budget
        ticket.cut = True
        return [Cut(ticket.name, "insufficient_quota", "the budget is spent; the answer ends here")]

    def _short_of_joules(self, ticket: Ticket, margin: Usage) -> tuple[int, int]:
        """The microjoules that are wanting, and as many with a lease; none where no budget is in joules."""
        held, usage = ticket.held, ticket.usage
        if not ticket.holding.metered or held.metered:
            return 0, 0
        known = Usage(margin.prompt_tokens, usage.cached_tokens, margin.completion_tokens)
        short = self._microjoules(ticket, known) - held.microjoules
        if short <= 0:
            return 0, 0
        if ticket.arrived.max_tokens is not None:
            return short, short
        lease = self._microjoules(ticket, Usage(0, 0, LEASE_TOKENS * ticket.strands))
        return short, short + lease

    # Joules, which are known when a request has been over for a while.

    def await_meter(self, ticket: Ticket, at: float) -> None:
        """Keep the joules of a request that is over reserved until its meter tells, if it ran at all.

        By the tokens that it was, not by those that it might have been; next to none where no engine answered.
        """
        holding, name = ticket.holding, ticket.name
        if not ticket.attempts:
            return
        need = min(ticket.held.microjoules, self._microjoules(ticket, ticket.usage))
        was = holding.unsettled.get(name)
        if was is not None:  # another request of this name, and one of them would never be given back
            holding.give_up_meter(was, at)
        kept = holding.keep_joules(name, need, at + METER_S)
        self._office.agenda.add(kept.until, "meter", kept)

    def meter_is_silent(self, kept: Unsettled, at: float) -> Effects:
        """No meter has told in time: what was to be expected counts as taken."""
        kept.holding.give_up_meter(kept, at)
        self._guessed[kept.holding.key_id, kept.ticket] = Guess(kept.microjoules, at)
        if len(self._guessed) > _GUESSED_MAX:
            del self._guessed[next(iter(self._guessed))]
        return []

    def energy_settled(self, event: EnergySettled) -> Effects:
        """Take in what a request took by its meters, and learn from it what others will take."""
        usage, ticket = event.usage, self._office.tickets.get(event.ticket)
        if not self.accounts.give_joules_back(event) and ticket is not None and ticket.key.id == event.key_id:
            ticket.holding.is_metered(ticket.held)
        self.accounts.settled(event, self._guessed.pop((event.key_id, event.ticket), None))
        if usage.total_tokens:
            need = self._needs.setdefault(event.model, EnergyNeed())
            fresh = usage.prompt_tokens - usage.cached_tokens
            need.add(fresh, usage.completion_tokens, max(0.0, event.joules))
        return []

    # When keys and accounts change.

    def is_to_be_revoked(self, key_id: str, at: float) -> bool:
        """Whether a revocation planned for that time still stands."""
        return self._revoked_from.get(key_id) == at

    def budget_spent(self, event: BudgetSpent) -> Effects:
        """Take in what was spent before this run."""
        self.accounts.spent(event)
        return []

    def key_changed(self, event: KeyChanged) -> Effects:
        """Take in a key that was made, changed or revoked; a revocation takes its open streams with it."""
        key = event.key
        self.keys[key.digest] = key
        self.accounts.key_changed(key)
        self.standings.clear()
        self._revoked_from.pop(key.id, None)
        if key.revoked_s is None:
            return []
        if key.revoked_s > event.at:  # planned, or by a clock that is ahead of ours
            self._revoked_from[key.id] = key.revoked_s
            self._office.agenda.add(key.revoked_s, "revoke", key.id)
            return []
        return self._cut_off(key.id)

    def revoke(self, key_id: str, _: float) -> Effects:
        """The time of a planned revocation has come."""
        del self._revoked_from[key_id]
        return self._cut_off(key_id)

    def _cut_off(self, key_id: str) -> Effects:
        """A revoked key takes its open streams with it (Open WebUI's CVE-2026-44553 did not)."""
        effects: Effects = []
        for name, ticket in self._office.tickets.items():
            if ticket.key.id == key_id and not ticket.cut:
                ticket.cut = True
                effects.append(Cut(name, "invalid_api_key", "this key was revoked while the answer was streaming"))
        return effects
