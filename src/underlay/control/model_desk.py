"""The desk of one model: who serves it, who waits for it, and who goes next to whom.

Decided here is the meeting of the two: a request starts at once if a replica takes it and nobody is before it,
else it waits in line (``waiting``) and is bound to a replica as late as possible (``routing``). A request is
not let into a line that it would not put up with. It refuses to know keys, budgets and bills: that is the
desk's, which also ends what cannot go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from underlay.domain.errors import Overloaded
from underlay.domain.policy import DeskSettings

from .accounts import Accounts
from .concurrency import Limit, expected_cost
from .dice import Dice
from .effects import AnyEffect, Dispatch, Probe
from .events import FirstToken
from .fading import FadingLine
from .fairness import INPUT_WEIGHT, OUTPUT_WEIGHT, Counters, Holdback
from .fleet import Lease, Pool, Replica
from .hedging import Hedger
from .overload import Delay, Served, Service
from .prefixes import PrefixIndex, chain, root
from .recovery import RetryBudget
from .routing import POLICIES
from .routing.policy import Choice
from .ticket import Ticket
from .waiting import Line

#: Until answers were seen: how long one is, and how many tokens a byte of prompt makes.
_USUAL_COMPLETION_TOKENS = 256.0
_USUAL_TOKENS_PER_BYTE = 0.25
_USUAL_OVERHEAD_TOKENS = 0.0
#: All of the first prompts teach how long prompts are, later one in so many.
_SIZED_ALL = 64
_SIZED_EACH = 8
#: With a target for the first token: the wait may turn out so many times what was reckoned (that is a mean), and
#: the prompt so much slower than usual. Who is let into the line should be served: late refusals are the worst.
_CAUTION = 2.0
_ROOM = 1.2
#: A standing line longer than this part of what a first token may take is overload.
_TARGET_SHARE = 0.25
#: How many blocks a driver sends at most (``events.Arrived.blocks``).
_BLOCKS_MAX = 512


class ModelDesk:
    """Replicas, line and lore of one model."""

    def __init__(self, name: str, settings: DeskSettings, accounts: Accounts) -> None:
        self.name = name
        self.pool = Pool(name)
        self.index = PrefixIndex()
        self.counters = Counters(accounts.weight)
        self._weight = accounts.weight
        self.service = Service()
        self.retries = RetryBudget(settings.retry_share)
        self.hedger = Hedger(settings.hedge_share)
        self.aside: dict[
            str, Ticket
        ] = {}  # waiting for another replica than failed them, or for their turn to retry
        self.holdbacks: list[Holdback] = []
        self._below: dict[int, list[Holdback]] = {}  # by band: its own and those of the lower ones seen so far
        self.postponed: list[Ticket] = []  # whose time to retry was put off; the desk makes the appointment
        self.kept_until = 0.0  # when to see whether free slots are still kept for others
        self.size = FadingLine(_USUAL_OVERHEAD_TOKENS, _USUAL_TOKENS_PER_BYTE, keep_slope=True)
        self.completion_tokens = _USUAL_COMPLETION_TOKENS
        self._sized = 0
        self.adopt(settings)
        self.count_in((), 0.0)

    def adopt(self, settings: DeskSettings) -> None:
        """Decide by these settings from now on; those who wait keep their order. Their bands are set already."""
        waiting = self.in_line() if hasattr(self, "line") else []
        self.settings = settings
        self.counters.reweigh()
        self.line: Line[Ticket] = Line(settings.bands, self.counters)
        for ticket in waiting:
            self.line.push(ticket)
        ttft_s = settings.slo_ttft_s or settings.wait_max_s
        self.served_lately = Served([band.share for band in settings.bands])
        self.delay = Delay(ttft_s * _TARGET_SHARE, max(2.0, ttft_s * _TARGET_SHARE))
        self.route = POLICIES[settings.routing](settings, Dice(settings.seed))
        self._probing = self.route.probing
        for holdback in self.holdbacks:
            holdback.keep(settings.holdback_share)
        self.retries.share = settings.retry_share
        self.hedger.share = settings.hedge_share
        for replica in self.pool.members.values():
            if (replica.limit is not None) != settings.adaptive:
                replica.limit = self.limit_of(replica)
                self.pool.changed(replica)

    def count_in(self, tickets: Iterable[Ticket], at: float) -> None:
        """Begin to hold slots back anew, from those that run: for each band by those in it and above it.

        So nothing is kept for guests less urgent than who is kept out.
        """
        share = self.settings.holdback_share
        self.holdbacks = [Holdback(share, self._weight)]
        self._below = {}
        for ticket in tickets:
            for lease in ticket.leases():
                for holdback in self._holdbacks_from(ticket.band):
                    holdback.began(ticket.tenant, lease.strands, at)

    def _holdbacks_from(self, band: int) -> list[Holdback]:
        """Those of this band and of the lower ones seen so far: what those below saw until now is the same."""
        while len(self.holdbacks) <= band:
            self.holdbacks.append(self.holdbacks[-1].copy())
            self._below.clear()
        self._below[band] = below = self.holdbacks[band:]
        return below

    # Getting to know a request.

    def root_of(self, tenant: str, template: str) -> int:
        """Where the chains of a tenant's prompts start."""
        return root(self.name, "", template, tenant)

    def size_up(self, ticket: Ticket) -> None:
        """Estimate what the request will take, and find its beginning's place in the index."""
        arrived, size = ticket.arrived, self.size
        ticket.prompt_tokens = prompt = int(size.base + size.slope * arrived.prompt_bytes) + 1
        answer = int(self.completion_tokens)
        if arrived.max_tokens is not None and arrived.max_tokens < answer:
            answer = arrived.max_tokens
        ticket.cost = expected_cost(prompt, answer) * arrived.strands
        ticket.chain = chain(ticket.standing.root, arrived.blocks) if arrived.blocks else []

    def waiting(self) -> int:
        """How many wait."""
        return self.line.size + len(self.aside)

    def in_line(self) -> list[Ticket]:
        """Who waits in line, by arrival."""
        return sorted(self.line, key=lambda ticket: ticket.arrived.at)

    def everyone_waiting(self) -> Iterator[Ticket]:
        """All who wait, in no order."""
        yield from self.aside.values()
        yield from self.line

    # In, or not.

    def must_wait(self) -> bool:
        """Whether a newcomer has to stand in line first (it may be at its head)."""
        return not self.pool.open or self.line.size > 0

    def patience_s(self, ticket: Ticket) -> float:
        """How long the request may wait from its arrival, by its band and its caller's own deadline."""
        patience_s = self.band_patience_s(ticket)
        deadline_s = ticket.arrived.deadline_s
        return patience_s if deadline_s is None or ticket.seen else min(patience_s, deadline_s)

    def band_patience_s(self, ticket: Ticket) -> float:
        """How long a request of its band may wait, whatever its caller says."""
        return self.settings.wait_max_s * self.settings.bands[ticket.band].patience

    def refuse_the_hopeless(self, ticket: Ticket) -> None:
        """Refuse at once what would wait too long: better now, with a time to come back, than after the wait."""
        ahead = self.line.ahead(ticket.band, ticket.tenant)
        left = self.served_lately.left_for(ticket.band, ticket.arrived.at)
        wait_s = self.service.wait_s(ahead, self.pool.slots) / left
        tolerable_s = self.tolerable_s(ticket)
        caution = 1.0 if self.settings.slo_ttft_s is None else _CAUTION
        too_long_s = wait_s - (tolerable_s - self.first_token_s(ticket)) / caution
        if too_long_s > 0.0:
            retry_after_s = min(60.0, max(1.0, too_long_s))
            raise Overloaded(
                f"the platform is full: {ahead} wait before this request, which would wait about {wait_s:.0f} s",
                retry_after_s=retry_after_s,
            )

    def first_token_s(self, ticket: Ticket) -> float:
        """How long the prompt alone should take, with a little room; 0 until something was measured."""
        pace = self.pool.pace
        return _ROOM * pace.first_token_s(ticket.prompt_tokens) if pace.known else 0.0

    def tolerable_s(self, ticket: Ticket) -> float:
        """What wait is worth starting: with a target for the first token, no longer than that."""
        patience_s = self.patience_s(ticket)
        slo_s = self.settings.slo_ttft_s
        return patience_s if slo_s is None else min(patience_s, slo_s * self.settings.bands[ticket.band].patience)

    def too_late(self, ticket: Ticket, at: float) -> bool:
        """Whether the caller will have given up before a first token can come; asked before any prefill."""
        deadline_s = ticket.arrived.deadline_s
        pace = self.pool.pace
        if deadline_s is None or ticket.seen or not self.pool.load or not pace.known:
            return False
        return at + pace.first_token_s(ticket.prompt_tokens) > ticket.arrived.at + deadline_s

    # Waiting.

    def push(self, ticket: Ticket, *, first: bool = False) -> None:
        """Have the ticket wait: in line, or aside if it has replicas to avoid or a time to keep."""
        self.counters.arrive(ticket.tenant)
        if ticket.tried or ticket.not_before:
            self.aside[ticket.name] = ticket
        else:
            self.line.push(ticket, first=first)

    def join(self, ticket: Ticket, at: float) -> None:
        """Have one that was put off stand in line with the others: its time has come."""
        del self.aside[ticket.name]
        ticket.not_before = 0.0
        ticket.since = at
        self.line.push(ticket)

    def remove(self, ticket: Ticket) -> None:
        """Take a waiting ticket out, unserved."""
        self.counters.depart(ticket.tenant)
        if self.aside.pop(ticket.name, None) is None:
            self.line.remove(ticket)

    def place(self, ticket: Ticket) -> int:
        """Its place among those who wait, from 1; an estimate, as fairness moves on while it waits.

        Nobody waits behind those that are put off for a better hour: their places are their own.
        """
        aside = [name for name, each in self.aside.items() if each.put_off == ticket.put_off]
        if ticket.name in self.aside:
            return aside.index(ticket.name) + 1
        return len(aside) + self.line.place(ticket)

    def why_wait(self, ticket: Ticket) -> str:
        """Say why nobody serves it now."""
        pool = self.pool
        if not pool.ready and not ticket.put_off:
            return "no replica is ready yet"
        if ticket.put_off:
            return "it is held until then"
        if ticket.not_before > ticket.at:
            return "its next attempt is not due yet"
        if not pool.open and pool.load < pool.slots:
            return f"{pool.load} of {pool.slots} slots are in use, and the replicas bear no more for now"
        if not pool.open:
            return f"every slot of {pool.ready} ready replicas is in use"
        if ticket.tried:
            return "every replica that has not failed it is busy"
        return "the free slots are kept for others" if ticket.strands == 1 else "too few slots are free at once"

    # Serving.

    def serve_line(self, at: float) -> tuple[list[AnyEffect], list[Ticket]]:
        """Dispatch those who wait while replicas take them; also returns those for whom it is too late now."""
        effects: list[AnyEffect] = []
        late: list[Ticket] = []
        for ticket in list(self.aside.values()) if self.aside else ():
            if self._may_retry(ticket, at) and self.dispatch(ticket, at, effects, "waited; "):
                self.counters.depart(ticket.tenant)
                del self.aside[ticket.name]
        while self.line.size and self.pool.open and self._serve_one(at, effects, late):
            pass
        if not self.line.size:
            self.delay.emptied(at)
        return effects, late

    def _may_retry(self, ticket: Ticket, at: float) -> bool:
        """Whether its time has come, and it has or now gets its part of the retry budget (I25)."""
        if ticket.not_before > at or ticket.put_off:
            return False
        if ticket.owes_retry and not self.retries.spend(at):
            ticket.not_before = self.retries.ready_at(at)
            self.postponed.append(ticket)
            return False
        ticket.owes_retry = False
        return True

    def _serve_one(self, at: float, effects: list[AnyEffect], late: list[Ticket]) -> bool:
        for ticket in self.line.heads(newest=self.delay.overloaded):
            waited_s = at - ticket.since
            if not ticket.attempts and self._drop(ticket, waited_s, at):
                self.remove(ticket)
                late.append(ticket)
                return True
            if self.held_back(ticket, at):
                continue
            word = "newest first, as the line stands; " if self.delay.overloaded else "waited; "
            if not self.dispatch(ticket, at, effects, word):
                return False  # too wide for what is free: it keeps its turn, or it would never come
            self.line.serve(ticket)
            self.counters.depart(ticket.tenant)
            self.delay.served(waited_s, at)
            return True
        return False

    def _drop(self, ticket: Ticket, waited_s: float, at: float) -> bool:
        if ticket.latest_at:  # nobody waits for it now: it is given up when it is too late, not when it is slow
            return False
        patience = self.settings.bands[ticket.band].patience
        worthless = self.settings.slo_ttft_s is not None and (
            waited_s + self.first_token_s(ticket) > self.tolerable_s(ticket)
        )
        return worthless or self.delay.too_late(waited_s / patience) or self.too_late(ticket, at)

    def held_back(self, ticket: Ticket, at: float) -> bool:
        """Whether the slots still free are kept for other tenants."""
        pool, band, holdbacks = self.pool, ticket.band, self.holdbacks
        holdback = holdbacks[band] if band < len(holdbacks) else holdbacks[-1]  # not seen yet: as the last one
        return holdback.about > 1 and holdback.keeps_out(ticket.tenant, pool.slots - pool.load, pool.slots, at)

    def look_again(self, at: float) -> bool:
        """Slots are free and somebody waits: whether ``kept_until`` now says something new.

        They may be kept for a guest who does not come, while those that run here run for long.
        """
        slots = self.pool.slots
        times = [holdback.kept_until(slots - self.pool.load, slots, at) for holdback in self.holdbacks]
        kept_until = min((until for until in times if until is not None), default=None)
        new = kept_until is not None and kept_until != self.kept_until
        if kept_until is not None:
            self.kept_until = kept_until
        return new

    def dispatch(self, ticket: Ticket, at: float, effects: list[AnyEffect], prefix: str = "") -> bool:
        """Take a lease for the ticket and say so; False if no replica takes it now."""
        candidates: Sequence[Replica] = self.pool.open
        if ticket.strands > 1 or ticket.tried:
            candidates = self._candidates(ticket)
        if not candidates and ticket.seen:
            candidates = self._any_slot(ticket)
        if not candidates:
            return False
        ticket.at = at
        choice = self.route.choose(ticket, candidates, self.pool, self.index)
        ticket.lease = lease = self._lease(ticket, choice, at)
        ticket.step("dispatch")
        self.served_lately.note(ticket.band, at)
        attempt = lease.attempt
        resume = ticket.seen and attempt > 1
        effects.append(Dispatch(ticket.name, choice.replica.name, attempt, resume, prefix + choice.why))
        if attempt == 1:
            self._note_first(ticket, lease, at)
        if self._probing:
            effects += [Probe(replica.name) for replica in self.route.probes(self.pool)]
        return True

    def _note_first(self, ticket: Ticket, lease: Lease, at: float) -> None:
        """Count a first attempt for those that bound what comes after it."""
        self.retries.first(at)
        self.counters.charge(ticket.tenant, INPUT_WEIGHT * ticket.prompt_tokens * ticket.strands)
        if self.hedger.share:
            expected_s = lease.replica.pace.first_token_s(lease.ahead_tokens)
            self.hedger.dispatched(ticket.name, lease.uncached_tokens, expected_s, at)

    def hedge(self, ticket: Ticket, at: float, effects: list[AnyEffect]) -> bool:
        """Ask a second replica for the same; False if there is none."""
        lease = ticket.lease
        if lease is None or ticket.rival is not None or ticket.seen or not lease.prefilling:
            return False
        others = [r for r in self.pool.open if r is not lease.replica and r.takes(ticket.strands)]
        if not others or self.line:
            return False
        choice = self.route.choose(ticket, others, self.pool, self.index)
        ticket.rival = self._lease(ticket, choice, at)
        ticket.step("hedge")
        why = f"no first token after {at - lease.at:.2f} s: a hedge; {choice.why}"
        effects.append(Dispatch(ticket.name, choice.replica.name, ticket.attempts, False, why, beside=True))
        return True

    def _candidates(self, ticket: Ticket) -> Sequence[Replica]:
        """The replicas that take it now; those that failed it only if no other is ready."""
        opened = self.pool.open
        strands, tried = ticket.strands, ticket.tried
        if tried and self.others(ticket):
            opened = [replica for replica in opened if replica.name not in tried]
        return [replica for replica in opened if replica.takes(strands)]

    def _any_slot(self, ticket: Ticket) -> Sequence[Replica]:
        """Who has a slot free, though it starts slowly or bears less now: a caller in mid-answer comes first."""
        asked = self.others(ticket) or self._ready()
        return [replica for replica in asked if replica.load + ticket.strands <= replica.slots]

    def others(self, ticket: Ticket) -> list[Replica]:
        """The ready replicas that have not failed it."""
        return [replica for replica in self._ready() if replica.name not in ticket.tried]

    def _ready(self) -> list[Replica]:
        return [replica for replica in self.pool.members.values() if replica.state == "ready"]

    def _lease(self, ticket: Ticket, choice: Choice, at: float) -> Lease:
        replica, cached, strands = choice.replica, choice.cached_tokens, ticket.strands
        ticket.attempts = attempt = ticket.attempts + 1
        uncached = (ticket.prompt_tokens + ticket.usage.completion_tokens - cached) * strands
        lease = self.pool.take(replica, attempt, at, strands, uncached if uncached > 0 else 1, cached, ticket.cost)
        if ticket.chain:
            self.index.insert(replica, ticket.chain, choice.depth)
        for holdback in self._below.get(ticket.band) or self._holdbacks_from(ticket.band):
            holdback.began(ticket.tenant, strands, at)
        return lease

    def release(self, ticket: Ticket, lease: Lease, at: float) -> None:
        """Give a lease back."""
        self.pool.give_back(lease)
        for holdback in self._below.get(ticket.band) or self._holdbacks_from(ticket.band):
            holdback.ended(ticket.tenant, lease.strands, at)

    # Learning.

    def first_token(self, ticket: Ticket, lease: Lease, event: FirstToken) -> None:
        """Learn from a first token how fast the replica is and what it had in its cache."""
        at, replica, ahead = event.at, lease.replica, lease.ahead_tokens
        pace, limit, took_s = replica.pace, replica.limit, at - lease.at
        prompt, cached = event.prompt_tokens, event.cached_tokens
        if prompt and lease.strands == 1 and not ticket.usage.prompt_tokens:  # it speaks of this attempt
            ahead += prompt - cached - lease.uncached_tokens
            ahead = max(1, ahead)
            if ticket.chain:
                self.index.correct(replica, lease.cached_tokens, cached)
            self._sized = sized = self._sized + 1
            if sized <= _SIZED_ALL or not sized % _SIZED_EACH:  # it is known well by then, and drifts slowly
                self._learn_size(ticket, prompt)
        expected_s = pace.base_s + ahead * pace.token_s
        pace.prefilled(ahead, took_s)
        if limit is not None:
            limit.first_token(took_s, expected_s, replica.cost, at)
        self.pool.first_token(lease, at)
        if self.hedger.share:
            self.hedger.heard(ticket.name, at - ticket.at)  # since its first copy was sent

    def _learn_size(self, ticket: Ticket, prompt_tokens: int) -> None:
        self.size.add(ticket.arrived.prompt_bytes, prompt_tokens)
        if 2 <= len(ticket.chain) < _BLOCKS_MAX:  # of a longer prompt, no more than these were told
            self.index.learn(prompt_tokens, len(ticket.chain))

    def finished(self, ticket: Ticket, lease: Lease, completion_tokens: int, at: float) -> None:
        """Learn from a whole answer how long answers are and how fast they come."""
        strands, replica = lease.strands, lease.replica
        self.service.observe((at - lease.at) * strands)
        self.completion_tokens += 0.05 * (completion_tokens / strands - self.completion_tokens)
        gaps, took_s = completion_tokens // strands - 1, at - lease.first_at
        if gaps > 0 and took_s > 0.0 and not lease.prefilling and not ticket.tried:
            replica.pace.decoded(gaps, took_s)
            if replica.limit is not None:
                replica.limit.decoded(took_s / gaps, replica.cost, at)

    def served(self, ticket: Ticket, completion_tokens: int) -> None:
        """Tell fairness what was produced for the tenant since it was told last."""
        more = completion_tokens - ticket.served_tokens
        if more:
            ticket.served_tokens = completion_tokens
            self.counters.charge(ticket.tenant, OUTPUT_WEIGHT * more)

    def limit_of(self, replica: Replica) -> Limit | None:
        """A fresh adaptive limit for a replica that (re)started."""
        return Limit(replica.slots) if self.settings.adaptive else None

    def check(self) -> None:
        """Verify what can be verified; raises ``AssertionError``."""
        self.pool.check()
        self.line.check()
        self.index.check(self.pool.members.values())
        assert all(t.state == "waiting" for t in self.everyone_waiting()), "someone waits who is not waiting"
