"""The teller: what can be told to the desk in a story, and how its answers are put in sentences.

Each public method of ``Teller`` is a command; words with ``=`` are its options. ``briefly`` before a command counts
its answers instead of listing them. Times in stories count from the beginning, a Monday.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from hashlib import blake2b
from heapq import heappop, heappush

from msgspec.structs import replace
from tests.control.builders import GEMMA as SMALL
from tests.control.builders import digest_of

from underlay.control.desk import assemble
from underlay.control.effects import Admitted, Cancel, Charge, Close, Dispatch, Hold, Probe, Refuse, WakeAt
from underlay.control.events import (
    Arrived,
    AttemptFailed,
    BudgetSpent,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Probed,
    Progress,
    ReplicaDraining,
    ReplicaLost,
    ReplicaSeen,
    SettingsChanged,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.keys import Budget, Key, Limits
from underlay.domain.money import usd
from underlay.domain.policy import Account, Band, DeskSettings

GEMMA = replace(SMALL, context_tokens=32_768)
BEGIN_S = 1_780_272_000.0  # 2026-06-01T00:00:00Z
BLOCK_BYTES = 128
PERIODS = ("day", "week", "month", "total")
LIMITS = Limits.__struct_fields__


def value_of(text):
    """A number, a yes or no, or a word."""
    if text in ("yes", "no"):
        return text == "yes"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def bounds_of(more):
    """Take limits (``concurrent=2``) and budgets (``day_usd=0.5 month_tokens=9``) out of a command's options."""
    budgets = []
    for period in PERIODS:
        money, tokens = more.pop(f"{period}_usd", None), more.pop(f"{period}_tokens", None)
        if money is not None or tokens is not None:
            budgets.append(Budget(period, None if money is None else round(money * 10**12), tokens))
    limits = Limits(**{name: more.pop(name) for name in LIMITS if name in more})
    return {"limits": limits, "budgets": tuple(budgets)}


def band_of(text):
    """A band as ``name:share:patience``."""
    name, *numbers = text.split(":")
    return Band(name, *map(float, numbers))


def blocks_of(prompt):
    """The blocks of a prompt told as ``rules:30,question``: thirty blocks of rules, and one of the question."""
    parts = [part.partition(":") for part in prompt.split(",")]
    texts = [f"{name}/{number}" for name, _, count in parts for number in range(int(count or 1))]
    return tuple(int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big") for text in texts)


class Teller:
    """Tells a desk a story line by line; ``tell`` returns what it answers, as sentences."""

    def __init__(self) -> None:
        self.at = 0.0
        self.alarm: float | None = None
        self.attempts = defaultdict(list)  # of each ticket, those that run
        self.generations = Counter()
        self.paces = {}  # of the engines, by replica: tokens read per second, seconds per token written
        self.known = {}  # keys, by name
        self.served = 0
        self.rules = {"models": (GEMMA,)}
        self.desk = assemble(DeskSettings(**self.rules))

    def tell(self, line: str) -> list[str]:
        command, *words = shlex.split(line)
        brief = command == "briefly"
        if brief:
            command, *words = words
        names = [word for word in words if "=" not in word]
        options = {name: value_of(value) for name, _, value in (w.partition("=") for w in words if "=" in w)}
        said = getattr(self, command)(*names, **options)
        return (self.counted(said) if brief else self.sentences(said)) or ["nothing to do"]

    def sentences(self, said):
        named = lambda effect: getattr(self, f"_{type(effect).__name__.lower()}")(effect)  # noqa: E731
        return [each if isinstance(each, str) else named(each) for each in said]

    def counted(self, said):
        """How often each kind of answer was given."""
        kinds = Counter(each if isinstance(each, str) else self._kind(each) for each in said)
        return [text if count == 1 else f"{count} x {text}" for text, count in kinds.items() if text]

    @staticmethod
    def _kind(effect):
        if type(effect) in (Admitted, WakeAt, Charge, Probe):
            return ""
        if type(effect) in (Dispatch, Cancel):
            return f"{type(effect).__name__.lower()} {'to' if type(effect) is Dispatch else 'on'} {effect.replica}"
        if type(effect) in (Close, Refuse):
            return f"{type(effect).__name__.lower()} as {effect.reason or effect.outcome}"
        return f"hold: {effect.why}" if type(effect) is Hold else type(effect).__name__.lower()

    def _now(self):
        return BEGIN_S + self.at

    @staticmethod
    def _time(at):
        return f"{round(at - BEGIN_S, 2):g} s"

    def _handle(self, event):
        effects = self.desk.handle(event)
        self.desk.check()
        for effect in effects:
            if type(effect) is Dispatch:
                self.attempts[effect.ticket].append(effect.attempt)
            elif type(effect) is Cancel:
                self.attempts[effect.ticket].remove(effect.attempt)
            elif type(effect) is WakeAt:
                self.alarm = effect.at - BEGIN_S
        return effects

    # What the operator does.

    def settings(self, **more):
        """The first of all lines, or a change while the desk works."""
        if "bands" in more:
            more["bands"] = tuple(band_of(text) for text in more["bands"].split(","))
        more.update({"default_limits": bounds_of(more)["limits"]} if set(more) & set(LIMITS) else {})
        self.rules.update(more)
        if not self.desk.keys:
            self.desk = assemble(DeskSettings(**self.rules))
            return ["a new desk"]
        return self._handle(SettingsChanged(self._now(), DeskSettings(**self.rules)))

    def account(self, scope, name, **more):
        """Limits, budgets, weight and band of a user, a tenant or a model."""
        others = [each for each in self.rules.get("accounts", ()) if (each.scope, each.name) != (scope, name)]
        self.rules["accounts"] = (*others, Account(scope, name, **bounds_of(more), **more))
        return self._handle(SettingsChanged(self._now(), DeskSettings(**self.rules)))

    def key(self, name, tenant="", **more):
        key = Key(f"key_{name}", digest_of(name), tenant or f"{name}'s", **bounds_of(more), **more)
        self.known[name] = key
        return self._handle(KeyChanged(self._now(), key))

    def revoke(self, name):
        return self._handle(KeyChanged(self._now(), replace(self.known[name], revoked_s=self._now())))

    def spent(self, scope, name, period, usd=0, tokens=0):
        """What the books say of the time before this desk began."""
        since = BEGIN_S if period in ("day", "week", "month") else 0.0  # it began with all three
        pico_usd = round(usd * 10**12)
        return self._handle(BudgetSpent(self._now(), scope, name, period, since, pico_usd, tokens))

    # What replicas do.

    def replica(self, name, slots=2, model=GEMMA.name):
        self.generations[name] += 1
        return self._handle(ReplicaSeen(self._now(), name, model, slots, self.generations[name]))

    def lose(self, name, cause):
        return self._handle(ReplicaLost(self._now(), name, cause))

    def drain(self, name):
        return self._handle(ReplicaDraining(self._now(), name))

    def undrain(self, name):
        return self._handle(ReplicaDraining(self._now(), name, drain=False))

    def probed(self, name, running=0, waiting=0):
        return self._handle(Probed(self._now(), name, running, waiting))

    # What callers and engines do.

    def ask(self, ticket, *how, prompt="", prompt_bytes=40, once="", body="", **more):
        (who,) = [word.removeprefix("key:") for word in how if word.startswith("key:")] or ["ann"]
        more |= {"streaming": "streaming" in how, "resumable": "constrained" not in how}
        if prompt:
            more["blocks"] = blocks_of(prompt)
            prompt_bytes = BLOCK_BYTES * len(more["blocks"])
        if once:
            more["idempotency"] = (once, body or "the same")
        digests = (digest_of(who),)
        return self._handle(Arrived(self._now(), ticket, digests, GEMMA.name, "chat", prompt_bytes, **more))

    def crowd(self, name, count, *how, prompt="", **more):
        """Many of them at once, named name1, name2 and so on; ``#`` in their prompt is that number."""
        each = ((str(number + 1), prompt.replace("#", str(number + 1))) for number in range(int(count)))
        return [said for number, text in each for said in self.ask(name + number, *how, prompt=text, **more)]

    def first_token(self, ticket, prompt=10, cached=0, attempt=0):
        attempt = attempt or self.attempts[ticket][-1]
        return self._handle(FirstToken(self._now(), ticket, attempt, prompt, cached))

    def progress(self, ticket, tokens):
        return self._handle(Progress(self._now(), ticket, int(tokens)))

    def finish(self, ticket, prompt=10, cached=0, completion=20, attempt=0):
        usage = Usage(prompt, cached, completion)
        return self._handle(Finished(self._now(), ticket, attempt or self.attempts[ticket][-1], usage))

    def finish_all(self, **more):
        """Everything that runs or waits comes to its end, one after the other."""
        said = []
        while running := [name for name, ticket in self.desk.tickets.items() if ticket.state == "running"]:
            said += self.finish(running[0], **more)
        return said

    def fail(self, ticket, failure, delivered=0, attempt=0, detail=""):
        attempt = attempt or self.attempts[ticket][-1]
        if attempt in self.attempts[ticket]:
            self.attempts[ticket].remove(attempt)
        return self._handle(AttemptFailed(self._now(), ticket, attempt, failure, delivered, detail))

    def leave(self, ticket, prompt=10, cached=0, completion=0):
        return self._handle(ClientGone(self._now(), ticket, Usage(prompt, cached, completion)))

    def engine(self, replica, reads=5000, writes=50):
        """How fast an engine is, in tokens per second; ``serve`` goes by it."""
        self.paces[replica] = (reads, writes)
        return [f"{replica} reads {reads} tokens per second and writes {writes}"]

    def serve(self, count, *how, at_once=1, completion=20, **more):
        """So many are asked, so many at once, and all answered as fast as the engines are."""
        tally, coming, free_at = Counter(), [], defaultdict(float)

        def take_in(effects):
            for each in effects:
                tally[self._rare(each)] += 1
                if type(each) is Dispatch:
                    ticket = self.desk.tickets[each.ticket]
                    uncached = max(1, self._tokens_of(ticket) - ticket.lease.cached_tokens)
                    reads, writes = self.paces.get(each.replica, (5000, 50))
                    first_at = max(self.at, free_at[each.replica]) + uncached / reads
                    free_at[each.replica] = first_at
                    heappush(coming, (first_at, len(coming), "first", each.ticket))
                    heappush(coming, (first_at + completion / writes, len(coming), "last", each.ticket))

        for begun in range(0, int(count), at_once):
            for _ in range(min(at_once, int(count) - begun)):
                self.served += 1
                take_in(self.ask(f"s{self.served}", *how, **more))
            while coming:
                self.at, _, word, ticket = heappop(coming)
                prompt = self._tokens_of(self.desk.tickets[ticket])
                take_in(
                    self.first_token(ticket, prompt=prompt)
                    if word == "first"
                    else self.finish(ticket, prompt=prompt, completion=completion)
                )
        told = [f"{replica} answered {tally[replica]}" for replica in sorted(self.desk.replicas) if tally[replica]]
        rare = [text for text in tally if text and text not in self.desk.replicas]
        return [", ".join(told), *rare, f"it is {self.at:.1f} s"]

    @staticmethod
    def _tokens_of(ticket):
        """What engines make of a prompt, whatever the desk takes it for."""
        return ticket.arrived.prompt_bytes // 4 + 1

    def _rare(self, effect):
        """What ``serve`` counts: replicas; and in full only what is out of the ordinary."""
        if type(effect) is Dispatch:
            return effect.replica
        if type(effect) in (Admitted, Charge, Close, Hold, WakeAt):
            return ""
        return self.sentences([effect])[0]

    # What time does, and what can be seen.

    def wait(self, seconds):
        until, said = self.at + float(seconds.removesuffix("s")), []
        while self.alarm is not None and self.alarm <= until:
            self.at, self.alarm = max(self.at, self.alarm), None
            said += [f"at {round(self.at, 2):g} s the alarm rings", *self._handle(Tick(self._now()))]
        self.at = until
        return [*said, f"it is {round(self.at, 2):g} s"]

    def books(self):
        said = [self._replica_in_the_books(replica) for replica in self.desk.replicas.values()]
        tickets = self.desk.tickets
        if len(tickets) > 6:
            states = Counter(ticket.state for ticket in tickets.values())
            return [*said, ", ".join(f"{count} {state}" for state, count in states.items())]
        return said + [f"{name} is {ticket.state}" for name, ticket in tickets.items()]

    @staticmethod
    def _replica_in_the_books(replica):
        said = f"{replica.name} is {replica.state}, {replica.load} of {replica.slots} slots in use"
        if replica.capacity < replica.slots:
            said += f", it may have {replica.capacity} so far"
        if replica.limit is not None and replica.limit.cost < 10**9:
            said += f", {replica.cost:.0f} of {replica.limit.cost:.0f} tokens of work"
        return said

    def queue(self):
        waiting = [ticket for ticket in self.desk.tickets.values() if ticket.state == "waiting"]
        places = sorted((self.desk.queue_place(ticket.name), ticket.name) for ticket in waiting)
        return [", ".join(f"{name} at place {place}" for place, name in places) or "nobody waits"]

    def received(self):
        """What fairness counts: weighted tokens of each tenant, by its weight."""
        counters = self.desk.of_model(GEMMA.name).counters
        tenants = dict.fromkeys(key.tenant for key in self.known.values())
        return [", ".join(f"{tenant} {counters.value(tenant):.0f}" for tenant in tenants)]

    # What it decides.

    def _admitted(self, effect):
        return f"admit {effect.ticket}: {effect.why}"

    def _dispatch(self, effect):
        how = "to go on" if effect.resume else "beside the first" if effect.beside else "from the start"
        return f"dispatch {effect.ticket} to {effect.replica}, attempt {effect.attempt}, {how}: {effect.why}"

    def _hold(self, effect):
        return f"hold {effect.ticket} at place {effect.place}, until {self._time(effect.until)}: {effect.why}"

    def _replay(self, effect):
        return f"answer {effect.ticket} with the answer of {effect.original}"

    def _refuse(self, effect):
        again = "" if effect.retry_after_s is None else f" (again in {round(effect.retry_after_s, 1):g} s)"
        return f"refuse {effect.ticket} as {effect.reason}: {effect.message}{again}"

    def _cancel(self, effect):
        return f"cancel {effect.ticket} on {effect.replica}, attempt {effect.attempt}"

    def _cut(self, effect):
        return f"cut {effect.ticket} as {effect.reason}: {effect.message}"

    def _charge(self, effect):
        used = effect.usage
        tokens = f"{used.prompt_tokens} prompt tokens ({used.cached_tokens} cached), {used.completion_tokens} made"
        return f"charge {effect.tenant} ${usd(effect.cost_pico_usd)} for {effect.ticket}: {tokens}"

    def _close(self, effect):
        error = f"; {effect.reason}: {effect.message}" if effect.reason else ""
        return f"close {effect.ticket} as {effect.outcome}: {effect.why}{error}"

    def _eject(self, effect):
        return f"leave {effect.replica} alone until {self._time(effect.until)}: {effect.why}"

    def _drained(self, effect):
        return f"{effect.replica} may be stopped: {effect.why}"

    def _probe(self, effect):
        return f"ask {effect.replica} how busy it is"

    def _wakeat(self, effect):
        return f"wake at {self._time(effect.at)}"
