"""One desk, every event, any order: late, twice, stale, from the dead. The books must add up after each.

The machine knows what a driver knows (what it was told to do) and nothing of the desk's insides but its books.
Numbers like I1 are the invariants of the design. ``DESK_EXAMPLES=2000`` looks for longer than a second.
"""

from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal

from hypothesis import HealthCheck
from hypothesis import settings as pace
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.control.builders import GEMMA, NOW_S, PRICE, arrived, digest_of, key, settings

from underlay.control import journal
from underlay.control.desk import assemble
from underlay.control.effects import (
    Admitted,
    Cancel,
    Charge,
    Close,
    Cut,
    Dispatch,
    Drained,
    Eject,
    Hold,
    Probe,
    Refuse,
    Replay,
    WakeAt,
)
from underlay.control.events import (
    AttemptFailed,
    BudgetSpent,
    ClientGone,
    EnergySettled,
    Finished,
    FirstToken,
    GridSeen,
    KeyChanged,
    Probed,
    Progress,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from underlay.control.routing import POLICIES
from underlay.domain.answer import Usage
from underlay.domain.errors import ERROR_OF_REASON
from underlay.domain.keys import Budget, Limits
from underlay.domain.policy import Band, DeskSettings, ModelPolicy

REPLICAS = ("r1", "r2", "r3")
KEYS = ("ann", "bob")
MODELS = ("gemma", "llama")
LLAMA = ModelPolicy("llama", context_tokens=1000, price=PRICE)
ALL = (GEMMA, LLAMA)


def mostly(usual, *others):
    """The usual value four times in five: a desk that refuses everything is not tested much."""
    return st.sampled_from([usual] * 4 * len(others) + list(others))


failures = st.sampled_from(["reset", "connect", "stall", "engine_error", "malformed", "rejected"])
counts = st.integers(0, 50)
usages = st.builds(lambda prompt, completion: Usage(prompt, prompt // 2, completion), counts, counts)
limits = st.builds(
    Limits,
    requests_per_minute=mostly(None, 20),
    tokens_per_minute=mostly(None, 500),
    concurrent=mostly(None, 4),
)
budgets = mostly(
    (), (Budget("day", tokens=2000),), (Budget("total", pico_usd=10**9),), (Budget("total", joules=500.0),)
)
some_settings = st.builds(
    lambda waiting, patience, attempts, strikes, limit, routing, slo, hedge, bands, adaptive, kept, put_off: (
        settings(
            waiting_max=waiting,
            wait_max_s=patience,
            attempts_max=attempts,
            strikes_max=strikes,
            suspect_s=5.0,
            default_limits=limit,
            routing=routing,
            slo_ttft_s=slo,
            hedge_share=hedge,
            drain_s=2.0,
            slow_start_s=4.0,
            bands=bands,
            adaptive=adaptive,
            holdback_share=kept,
            deferral=put_off,
            deferral_margin_s=60.0,
        )
    ),
    mostly(100, 3, 0),
    st.sampled_from([3.0, 30.0]),
    st.integers(1, 4),
    st.integers(1, 3),
    limits,
    mostly("sticky", *sorted(POLICIES)),
    mostly(None, 0.5),
    mostly(0.0, 0.5),
    mostly(DeskSettings().bands, (Band("only"),), (Band("batch", 0.5), Band("standard", 0.5))),
    mostly(True, False),
    mostly(0.1, 0.0, 0.9),
    mostly("carbon", "none", "both"),
)


class Told:
    """A request as a driver sees it: what it was told to do about it, in order."""

    def __init__(self, event):
        self.event = event
        self.effects = []
        self.attempt = 0
        self.state = "new"  # waiting, running, over
        self.running = {}  # attempt -> replica; two while a hedge runs

    @property
    def replica(self):
        return self.running.get(self.attempt, "")


class DeskMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.at = NOW_S
        self.tickets: dict[str, Told] = {}
        self.live: dict[str, Told] = {}  # those that are not over
        self.touched: dict[str, Told] = {}  # by the last event
        self.diary = []
        self.alarm: float | None = None
        self.ejected: dict[str, float] = {}
        self.slots: dict[str, int] = {}
        self.generations = Counter()
        self.revoked: set[str] = set()

    # Doing what a driver does.

    def tell(self, event):
        effects = self.desk.handle(event)
        self.desk.check()
        self.diary.append(journal.Entry(event, effects))
        self.event = event
        for effect in effects:
            getattr(self, f"_{type(effect).__name__.lower()}")(effect)
        return effects

    def _note(self, effect):
        told = self.tickets[effect.ticket]
        assert told.state != "over", f"{effect} after the end of its ticket"
        told.effects.append(effect)
        self.touched[effect.ticket] = told
        return told

    def _admitted(self, effect: Admitted):
        told = self._note(effect)
        assert told.effects == [effect], "admitted first, and once"
        assert digest_of(effect.key_id.removeprefix("key_")) in told.event.digests
        assert effect.tenant == f"{effect.key_id.removeprefix('key_')}'s"

    def _dispatch(self, effect: Dispatch):
        told = self._note(effect)
        assert effect.attempt == told.attempt + 1, "attempts rise by one"
        assert effect.replica in self.slots, "only replicas we were told of"
        assert effect.why
        assert not (effect.resume and not (told.event.streaming and told.event.resumable))
        assert len(told.running) == effect.beside, "one attempt at a time, or one and a hedge"
        assert effect.replica not in told.running.values(), "a hedge goes elsewhere"
        told.attempt, told.state = effect.attempt, "running"
        told.running[effect.attempt] = effect.replica

    def _hold(self, effect: Hold):
        told = self._note(effect)
        assert effect.place >= 1
        assert effect.until >= self.at
        assert effect.why
        told.state = "waiting"
        assert not told.running

    def _replay(self, effect: Replay):
        told = self._note(effect)
        original = self.tickets[effect.original]
        assert [type(each) for each in told.effects] == [Admitted, Replay]
        assert original.effects[-1].outcome == "finished"
        assert original.event.idempotency == told.event.idempotency
        told.state = "over"
        del self.live[effect.ticket]

    def _refuse(self, effect: Refuse):
        told = self._note(effect)
        assert not told.attempt, "who ran is not refused"
        told.state = "over"
        del self.live[effect.ticket]

    def _cancel(self, effect: Cancel):
        told = self._note(effect)
        assert told.running.pop(effect.attempt) == effect.replica, "what is stopped was running"
        if not told.running:
            told.state = "stopped"
        elif effect.attempt == told.attempt:
            (told.attempt,) = told.running

    def _cut(self, effect: Cut):
        told = self._note(effect)
        assert effect.reason in ERROR_OF_REASON
        if effect.reason == "invalid_api_key":
            assert told.effects[0].key_id.removeprefix("key_") in self.revoked
        assert sum(type(each) is Cut for each in told.effects) == 1

    def _charge(self, effect: Charge):
        told = self._note(effect)
        assert (effect.key_id, effect.tenant) == (told.effects[0].key_id, told.effects[0].tenant)

    def _close(self, effect: Close):
        told = self._note(effect)
        assert effect.why
        if effect.outcome == "finished":
            assert type(self.event) is Finished, "I3: a clean end only because the engine said so"
            assert (self.event.ticket, self.event.attempt) == (effect.ticket, told.attempt)
        told.state = "over"
        del self.live[effect.ticket]

    def _eject(self, effect: Eject):
        assert effect.until >= self.at
        ready = [r for r in self.desk.replicas.values() if r.state == "ready"]
        assert ready, "I18: somebody is left"

    def _drained(self, effect: Drained):
        assert self.desk.replicas[effect.replica].load == 0

    def _probe(self, effect: Probe):
        assert effect.replica in self.slots

    def _wakeat(self, effect: WakeAt):
        self.alarm = effect.at

    def alarm_is_due(self):
        return self.alarm is not None and self.alarm <= self.at

    def open(self, *states):
        wanted = states or ("waiting", "running")
        return [name for name, told in self.live.items() if told.state in wanted]

    # What may happen.

    @initialize(first=some_settings, second=limits, money=budgets)
    def open_the_desk(self, first, second, money):
        self.header = first
        self.desk = assemble(self._with_models(first))
        for name in KEYS:
            self.tell(KeyChanged(self.at, key(name, limits=second, budgets=money)))
        for name in REPLICAS[:2]:
            self.replica_seen(name, "gemma", 1, back=False)

    @staticmethod
    def _with_models(some):
        return type(some)(**{**{f: getattr(some, f) for f in some.__struct_fields__}, "models": ALL})

    @rule(
        who=mostly(("ann",), ("bob",), ("stranger",), ("ann", "bob"), ()),
        model=mostly("gemma", "llama", "gpt"),
        strands=mostly(1, 2, 4, 9),
        max_tokens=mostly(None, 20, 5000),
        streaming=st.booleans(),
        resumable=st.booleans(),
        deadline_s=mostly(None, 2.0, 600.0),
        blocks=mostly((), (1, 2, 3), (1, 2, 4), (9,)),
        session=mostly(0, 7),
        band=mostly("", "priority", "batch", "nonsense"),
        idempotency=mostly(("", ""), ("once", "a"), ("once", "b"), ("twice", "a")),
        defer_s=mostly(None, 5.0, 600.0, 20_000.0),
    )
    def arrive(self, who, **asked):
        name = f"t{len(self.tickets) + 1}"
        event = arrived(name, self.at, who, **asked)
        self.tickets[name] = self.live[name] = Told(event)
        effects = self.tell(event)
        mine = [effect for effect in effects if getattr(effect, "ticket", name) == name]
        assert type(mine[0]) in (Admitted, Refuse)
        if type(mine[0]) is Refuse:
            assert len(effects) == 1, "a refusal is all there is"

    @rule(count=st.integers(2, 5), streaming=st.booleans())
    def a_burst_arrives(self, count, streaming):
        for _ in range(count):
            self.arrive(("ann",), model="gemma", strands=1, max_tokens=None, streaming=streaming)

    @rule(hours=st.lists(st.integers(20, 900), min_size=2, max_size=2), prices=st.booleans())
    def grid_is_seen(self, hours, prices):
        """From one hour to the next it gets better or worse."""
        carbon = tuple(float(grams) for grams in hours) * 12
        self.tell(GridSeen(self.at, carbon, carbon if prices else ()))

    @precondition(lambda self: self.open("running"))
    @rule(data=st.data(), prompt=counts, tokens=counts)
    def tokens_come(self, data, prompt, tokens):
        name, attempt = self.one_running(data)
        self.tell(FirstToken(self.at, name, attempt, prompt, prompt // 2))
        self.tell(Progress(self.at, name, tokens))
        if self.tickets[name].state == "running":
            assert list(self.tickets[name].running) == [attempt], "who speaks first has won"

    def one_running(self, data):
        name = data.draw(st.sampled_from(self.open("running")))
        return name, data.draw(st.sampled_from(sorted(self.tickets[name].running)))

    @precondition(lambda self: self.open("running"))
    @rule(data=st.data(), usage=usages)
    def finish(self, data, usage):
        name, attempt = self.one_running(data)
        effects = self.tell(Finished(self.at, name, attempt, usage))
        (booked,) = [effect for effect in effects if type(effect) is Charge and effect.ticket == name]
        assert (booked.ticket, booked.usage, booked.outcome) == (name, usage, "finished")

    @precondition(lambda self: self.open("running"))
    @rule(data=st.data(), failure=failures, tokens=counts)
    def attempt_fails(self, data, failure, tokens):
        name, attempt = self.one_running(data)
        told = self.tickets[name]
        told.running.pop(attempt)  # a driver reports the end of an attempt that it has ended
        if told.running:
            told.attempt = min(told.running)
        effects = self.tell(AttemptFailed(self.at, name, attempt, failure, tokens, "detail"))
        assert effects or told.running, "its lease is given back, and it goes on elsewhere, waits or ends"

    @precondition(lambda self: self.open())
    @rule(data=st.data(), usage=usages)
    def client_leaves(self, data, usage):
        name = data.draw(st.sampled_from(self.open()))
        assert self.tell(ClientGone(self.at, name, usage))
        assert self.tickets[name].state == "over"

    @rule(data=st.data(), usage=usages, failure=failures)
    def late_words(self, data, usage, failure):
        """Of attempts that no longer count, of tickets that are over, of tickets and replicas that never were."""
        name = data.draw(st.sampled_from([*list(self.tickets)[-5:], "ghost"]))
        told = self.tickets.get(name)
        attempt = 0 if told and told.state != "over" else 1
        assert self.tell(FirstToken(self.at, name, attempt, 3, 0)) == []
        assert self.tell(Finished(self.at, name, attempt, usage)) == []
        assert self.tell(AttemptFailed(self.at, name, attempt, failure, 1, "late")) == []
        if name not in self.open():
            assert self.tell(Progress(self.at, name, 9)) == []
            assert self.tell(ClientGone(self.at, name, usage)) == []
        assert self.tell(ReplicaLost(self.at, "ghost", "never was")) == []
        self.alarm = None
        self.tell(Tick(self.at))  # a tick too many

    @rule(replica=st.sampled_from(REPLICAS), drain=mostly(True, False), busy=st.integers(0, 3))
    def replica_is_drained_or_wanted_again(self, replica, drain, busy):
        self.tell(Probed(self.at, replica, busy, busy))
        self.tell(ReplicaDraining(self.at, replica, drain))

    @rule(
        replica=st.sampled_from(REPLICAS),
        model=mostly("gemma", "llama"),
        slots=st.integers(1, 3),
        back=st.booleans(),
    )
    def replica_seen(self, replica, model, slots, back):
        if back:
            self.generations[replica] += 1
        known = self.desk.replicas.get(replica)
        if known is not None and known.load:
            model = known.model  # a process that serves another model is another process: its leases broke first
        if known is None or back or known.state == "lost":
            self.slots[replica] = slots
        self.tell(ReplicaSeen(self.at, replica, model, slots, self.generations[replica]))
        assert self.desk.replicas[replica].slots == self.slots[replica]

    @rule(replica=st.sampled_from(REPLICAS))
    def replica_lost(self, replica):
        running = [name for name in self.open("running") if replica in self.tickets[name].running.values()]
        effects = self.tell(ReplicaLost(self.at, replica, "killed"))
        assert [effect.ticket for effect in effects if type(effect) is Cancel] == running
        assert not any(replica in self.tickets[name].running.values() for name in self.open("running"))

    @rule(
        what=mostly("restore", "limit", "revoke", "soon", "settings"),
        who=st.sampled_from(KEYS),
        limit=limits,
        new=some_settings,
    )
    def the_operator_acts(self, what, who, limit, new):
        if what == "settings":
            self.tell(SettingsChanged(self.at, self._with_models(new)))
        elif what in ("revoke", "soon"):
            self.revoked.add(who)
            self.tell(KeyChanged(self.at, key(who, revoked_s=self.at + (2 if what == "soon" else 0))))
        else:
            self.tell(BudgetSpent(self.at, "key", f"key_{who}", "day", 0.0, 7, 7))
            for each in KEYS if what == "restore" else [who]:
                self.revoked.discard(each)
                self.tell(KeyChanged(self.at, key(each, limits=limit if what == "limit" else Limits())))

    @rule(later_s=st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0, 3000.0]))
    def time_passes(self, later_s):
        """The driver keeps its promise: no alarm is slept through."""
        until = self.at + later_s
        while self.alarm is not None and self.alarm <= until:
            self.at, self.alarm = max(self.at, self.alarm), None
            self.tell(Tick(self.at))
        self.at = until

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), joules=st.floats(0.0, 200.0), usage=usages)
    def meter_tells(self, data, joules, usage):
        """Of one that is over, or not yet; nothing is to be done for it."""
        name = data.draw(st.sampled_from(list(self.tickets)[-8:]))
        asked = self.tickets[name].event.model
        who = data.draw(st.sampled_from(KEYS))
        event = EnergySettled(self.at, name, f"key_{who}", f"{who}'s", asked, joules, {"busy": joules}, usage)
        assert {type(effect) for effect in self.tell(event)} <= {WakeAt}

    @precondition(lambda self: any(type(e) is Cut for t in self.tickets.values() for e in t.effects[-1:]))
    @rule(usage=usages)
    def cut_streams_are_reported(self, usage):
        for name in self.open():
            if any(type(effect) is Cut for effect in self.tickets[name].effects):
                self.tell(ClientGone(self.at, name, usage))

    # What must hold after each of them.

    @invariant()
    def i1_every_request_is_somewhere(self):
        """I1: admitted and not over means on the desk, as waiting or running, and nobody else is."""
        there = {name: ticket.state for name, ticket in self.desk.tickets.items()}
        assert there == {name: self.tickets[name].state for name in self.open()}
        assert not self.open("new", "stopped")

    @invariant()
    def i5_i7_i11_i28_one_end_and_one_bill_in_that_order(self):
        """I1, I5, I7, I11, I28: refused once with a reason and no bill, or charged once and then closed."""
        for told in self.touched.values():
            kinds = [type(effect) for effect in told.effects]
            ends = kinds.count(Close) + kinds.count(Refuse) + kinds.count(Replay)
            assert ends == (told.state == "over")
            assert kinds.count(Charge) == kinds.count(Close)
            if told.state != "over":
                continue
            last = told.effects[-1]
            if type(last) is Replay:
                continue
            if type(last) is Refuse:
                assert last.reason in ERROR_OF_REASON
                continue
            booked = told.effects[-2]
            assert type(booked) is Charge
            assert type(last) is Close
            assert booked.outcome == last.outcome
            failed = last.outcome == "failed"
            assert (last.reason in ERROR_OF_REASON) == failed
            used = booked.usage
            per_mtok = PRICE.prompt_usd_per_mtok * (used.prompt_tokens - used.cached_tokens)
            per_mtok += PRICE.cached_usd_per_mtok * used.cached_tokens
            per_mtok += PRICE.completion_usd_per_mtok * used.completion_tokens
            assert booked.cost_pico_usd == (0 if failed else per_mtok * Decimal(10**6))
        self.touched.clear()

    @invariant()
    def i16_leases_never_exceed_slots(self):
        """I16: but for an idle replica that took one request wider than itself (or came back narrower)."""
        for name, replica in self.desk.replicas.items():
            leases = [
                self.tickets[each].event.strands
                for each in self.desk.tickets
                if name in self.tickets[each].running.values()
            ]
            assert replica.load == sum(leases)
            assert sum(leases) <= replica.slots or len(leases) == 1 or self.generations[name]

    @invariant()
    def i19_everything_that_waits_waits_for_a_time_we_shall_wake_at(self):
        """I19: no wait without an end, and the alarm for it is set."""
        due = [ticket.until for ticket in self.desk.tickets.values() if ticket.state == "waiting"]
        replicas = self.desk.replicas.values()
        due += [replica.suspect_until for replica in replicas if replica.state == "suspect"]
        due += [replica.drain_until for replica in replicas if replica.state == "draining" and replica.load]
        if due:
            assert self.alarm is not None
            assert self.alarm <= max(min(due), self.at)

    @invariant()
    def nobody_waits_who_could_run(self):
        """The next in turn declines, or nobody takes it, or the free slots are kept from its tenant."""
        for desk in self.desk.desks.values():
            for ticket in desk.aside.values():
                assert ticket.not_before > self.at or not desk._candidates(ticket)
            for ticket in desk.line.heads(newest=desk.delay.overloaded):
                if not desk.held_back(ticket, self.at):
                    assert not desk._candidates(ticket)
                    break

    @invariant()
    def who_can_wait_is_served_or_refused_in_time(self):
        """However often it was put off: by when it must have begun, it has begun or is gone."""
        for name, ticket in self.desk.tickets.items():
            if ticket.state == "waiting" and ticket.latest_at and not ticket.attempts:
                event = self.tickets[name].event
                assert event.at < ticket.latest_at < ticket.given_up_at <= event.at + event.defer_s
                assert ticket.until <= ticket.given_up_at
                assert self.at <= ticket.given_up_at or self.alarm_is_due()
                assert not ticket.put_off or ticket.not_before <= ticket.latest_at

    @invariant()
    def i8_i9_i10_budgets(self):
        """I8: what is spent and set aside stays within each budget, but for what ran before it was set."""
        for name in KEYS:
            holding = self.desk.accounts.holding(self.desk.keys[digest_of(name)], "gemma")
            for purse in holding.purses:
                assert purse.reserved_tokens >= 0
                assert purse.reserved_pico_usd >= 0
                assert purse.reserved_microjoules >= 0

    @invariant()
    def i15_a_revoked_key_has_no_open_stream_that_was_not_cut(self):
        """I15: revoked, its time come and its alarm rung: each of its requests has been told to end."""
        for told in (self.tickets[name] for name in self.open()):
            current = self.desk.keys[digest_of(told.effects[0].key_id.removeprefix("key_"))]
            if current.revoked_s is not None and current.revoked_s < self.at and not self.alarm_is_due():
                assert any(type(effect) is Cut for effect in told.effects)

    def teardown(self):
        if not hasattr(self, "desk"):
            return
        for count, name in enumerate(self.open()):
            told = self.tickets[name]
            if told.state == "running" and count % 2:
                self.tell(Finished(self.at, name, max(told.running), Usage(1, 0, 1)))
            elif told.state != "over":
                self.tell(ClientGone(self.at, name, Usage()))
        self._all_is_given_back()
        self._replay_is_equal()

    def _all_is_given_back(self):
        """I9: whatever happened, every counter is back at zero."""
        assert not self.open()
        assert self.desk.tickets == {}
        assert self.desk.waiting() == 0
        assert all(replica.load == 0 for replica in self.desk.replicas.values())
        assert all(replica.prefill_tokens == 0 for replica in self.desk.replicas.values())
        self.desk.accounts.check({}, [])
        self.touched = self.tickets
        self.i5_i7_i11_i28_one_end_and_one_bill_in_that_order()

    def _replay_is_equal(self):
        """The gate: the same events, read back from bytes, give a fresh desk the same effects."""
        begun = journal.Header(journal.FORMAT, "test", NOW_S, self._with_models(self.header))
        data = journal.encode(begun) + b"".join(map(journal.encode, self.diary))
        header, entries = journal.decode(data)
        again = assemble(header.settings)
        for entry, _ in entries:
            assert again.handle(entry.event) == entry.effects


TestDesk = DeskMachine.TestCase
TestDesk.settings = pace(
    max_examples=int(os.environ.get("DESK_EXAMPLES", "20")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
