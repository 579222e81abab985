"""After the worst of it: whatever happened, a desk whose replicas are well again is soon as good as new (I24, I27)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as pace
from hypothesis import strategies as st
from tests.control.builders import NOW_S, Bench, key

from underlay.control.effects import Cancel, Dispatch, Eject, Refuse
from underlay.control.events import (
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    Tick,
)
from underlay.domain.answer import Usage

REPLICAS = ("r1", "r2", "r3")
SLOTS = 4


class World(Bench):
    """A driver with engines: while they are ill attempts fail or crawl, else each answer takes a tenth of a second."""

    def __init__(self, **more):
        super().__init__(replicas=0, **more)
        self.running: dict[tuple[str, int], tuple[float, str]] = {}  # ticket and attempt -> when begun, and where
        self.generation = self.count = 0
        self.waiting_longest_s = 0.0
        for replica in REPLICAS:
            self.see(replica, SLOTS)
        self.tell(KeyChanged(NOW_S, key("bob")))

    def tell(self, event):
        effects = super().tell(event)
        for effect in effects:
            if type(effect) is Dispatch:
                self.running[effect.ticket, effect.attempt] = (self.at, effect.replica)
            elif type(effect) is Cancel:
                self.running.pop((effect.ticket, effect.attempt), None)
        return effects

    def ask(self, **more):
        self.count += 1
        return self.arrive(f"t{self.count}", **more)

    def pass_by(self, later_s):
        """Time passes, and all alarms ring."""
        until = self.at + later_s
        while (alarm := self.desk.agenda.alarm_at) is not None and alarm <= until:
            self.at = max(self.at, alarm)
            self.tell(Tick(self.at))
        self.at = until

    def end_one(self, failure=None):
        if not self.running:
            return []
        (ticket, attempt), (begun_at, _) = next(iter(self.running.items()))
        del self.running[ticket, attempt]
        if failure:
            return self.tell(AttemptFailed(self.at, ticket, attempt, failure))
        self.at = max(self.at, begun_at + 0.1)
        said = self.tell(FirstToken(self.at, ticket, attempt, 10, 0))
        return [*said, *self.tell(Finished(self.at, ticket, attempt, Usage(10, 0, 1)))]

    def heal(self):
        """Every replica is started afresh and wanted."""
        self.generation += 1
        for replica in REPLICAS:
            self.tell(ReplicaDraining(self.at, replica, drain=False))
            self.tell(ReplicaSeen(self.at, replica, "gemma", SLOTS, self.generation))


ILLS = {
    "burst": lambda world, n: [world.ask(who=("ann", "bob")[n % 2], streaming=bool(n % 3)) for _ in range(n * 4)],
    "wide": lambda world, n: world.ask(strands=n + 1),
    "hurried": lambda world, n: world.ask(deadline_s=float(n)),
    "batch": lambda world, _: world.ask(band="batch"),
    "fail": lambda world, n: [
        world.end_one(("reset", "connect", "stall", "engine_error")[n % 4]) for _ in range(n)
    ],
    "crawl": lambda world, n: [world.pass_by(1.0), world.end_one()] * n,
    "lose": lambda world, n: world.tell(ReplicaLost(world.at, REPLICAS[n % 3], "killed")),
    "drain": lambda world, n: world.tell(ReplicaDraining(world.at, REPLICAS[n % 3])),
    "wait": lambda world, n: world.pass_by(3.0 * n),
    "leave": lambda world, _: (
        world.desk.tickets and world.tell(ClientGone(world.at, next(iter(world.desk.tickets)), Usage()))
    ),
}


@pace(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(ILLS)), st.integers(0, 5)), min_size=3, max_size=25),
    st.sampled_from([None, 2.0]),
    st.sampled_from([0.0, 0.3]),
)
def test_i24_i27_from_every_state_it_returns_by_itself(ills, slo_ttft_s, hedge_share):
    """No trigger leaves it worse than it found it: within 120 s the line is empty, all slots serve, nobody is refused."""
    world = World(slo_ttft_s=slo_ttft_s, hedge_share=hedge_share, strikes_max=1, waiting_max=60)
    for name, number in ills:
        world.running = {
            of: where for of, where in world.running.items() if world.desk.tickets.get(of[0]) is not None
        }
        ILLS[name](world, number)
    world.heal()
    healed_at = world.at
    while world.desk.tickets and world.at < healed_at + 120:
        world.running = {of: how for of, how in world.running.items() if of[0] in world.desk.tickets}
        if not world.end_one():
            world.pass_by(0.5)
    assert not world.desk.tickets, "the line has been worked off, or its requests have been told"
    world.pass_by(max(0.0, healed_at + 120 - world.at))
    said = []
    for _ in range(12):
        said += world.ask()
    assert not any(type(effect) in (Refuse, Eject) for effect in said)
    assert sum(type(effect) is Dispatch for effect in said) == 12, "every slot of every replica serves"
    assert {replica.state for replica in world.desk.replicas.values()} == {"ready"}
