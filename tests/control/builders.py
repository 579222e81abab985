"""A desk with one model, two prices and as many keys and replicas as a test names. Short words for tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import settings as pace

from underlay.control.desk import Desk, assemble
from underlay.control.effects import AnyEffect, Charge, Close
from underlay.control.events import AnyEvent, Arrived, KeyChanged, ReplicaSeen
from underlay.domain.answer import Usage
from underlay.domain.keys import Key, Limits
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy

MODEL = "gemma"
PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
GEMMA = ModelPolicy(MODEL, context_tokens=1000, price=PRICE)
EMBEDDER = ModelPolicy("embedder", context_tokens=100, operations=("embedding",))
quick = pace(max_examples=30, deadline=None)  # a suite that takes two seconds is run after every change
NOW_S = 1_790_000_000.0  # live desks count in Unix seconds: tests must feel their rounding


def digest_of(name: str) -> str:
    return f"digest of {name}"


def key(name: str = "ann", **more) -> Key:
    return Key(id=f"key_{name}", digest=digest_of(name), tenant=f"{name}'s", **more)


def settings(**more) -> DeskSettings:
    return DeskSettings(models=(GEMMA, EMBEDDER), **more)


def arrived(ticket: str = "t1", at: float = NOW_S, who: str | tuple[str, ...] = "ann", **more) -> Arrived:
    names = (who,) if isinstance(who, str) else who
    asked = {"model": MODEL, "operation": "chat", "prompt_bytes": 40, **more}
    return Arrived(at=at, ticket=ticket, digests=tuple(digest_of(name) for name in names), **asked)


class Bench:
    """A desk that checks its whole state after every event, as all tests and the twin do."""

    checking = True

    def __init__(self, *, replicas: int = 1, slots: int = 2, limits: Limits | None = None, **more) -> None:
        self.desk: Desk = assemble(settings(**more))
        self.at = NOW_S
        self.tell(KeyChanged(self.at, key(limits=limits or Limits())))
        for number in range(1, replicas + 1):
            self.see(f"r{number}", slots)

    def tell(self, event: AnyEvent) -> list[AnyEffect]:
        effects = self.desk.handle(event)
        if self.checking:
            self.desk.check()
        return effects

    def see(self, replica: str, slots: int = 2, generation: int = 0, model: str = MODEL) -> list[AnyEffect]:
        return self.tell(ReplicaSeen(self.at, replica, model, slots, generation))

    def arrive(self, ticket: str = "t1", **more) -> list[AnyEffect]:
        return self.tell(arrived(ticket, self.at, **more))

    def load(self, replica: str) -> int:
        return self.desk.replicas[replica].load

    def waiting(self) -> list[str]:
        """Who waits: those for whom not every replica will do first, then the line by arrival."""
        aside = [name for desk in self.desk.desks.values() for name in desk.aside]
        line = {ticket.name for desk in self.desk.desks.values() for ticket in desk.line}
        return aside + [name for name in self.desk.tickets if name in line]


def kinds(effects: list[AnyEffect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def the(kind: type[Any], effects: list[AnyEffect]) -> Any:
    """The one effect of this kind."""
    (found,) = [effect for effect in effects if type(effect) is kind]
    return found


def billed(effects: list[AnyEffect]) -> tuple[str, Usage, int]:
    """How the one ticket among these effects ended: outcome, usage, pico-dollars. Charge comes before Close."""
    booked, closed = the(Charge, effects), the(Close, effects)
    assert effects.index(booked) == effects.index(closed) - 1
    assert booked.ticket == closed.ticket
    assert booked.outcome == closed.outcome
    return booked.outcome, booked.usage, booked.cost_pico_usd
