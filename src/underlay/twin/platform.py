"""One region's platform: the desk itself, and modelled replicas in the place of real ones.

Who calls, where replicas stand and what befalls them is told from outside, by ``arrive`` and the verbs on replicas
(``start``, ``lose``, ``silence``, ``throttle``, ``cap``, ``slow``, ``drain``). What follows is ``serving``'s and
the desk's: nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from underlay.control.events import Arrived, KeyChanged, ReplicaDraining, ReplicaLost, ReplicaSeen
from underlay.domain.keys import Key
from underlay.domain.policy import DeskSettings

from .crowd.call import BYTES_PER_TOKEN, Call
from .exchange import Exchange, Stream
from .kernel import Kernel
from .modelled import Modelled
from .serving import OnEnd, Serving

if TYPE_CHECKING:
    from .ledger.taken import Taken

#: How long it takes to notice a replica that says nothing more (live: a second of silence, then a probe that is not
#: answered); a process that ends is noticed at once.
_DETECT_S = 2.0


class Platform(Serving):
    """The desk of a region and its replicas. ``on_end`` is told of every request that ends here, once.

    ``bands`` say which tenants have another class of urgency than the usual. ``up`` says whether its door is open.
    """

    def __init__(
        self,
        kernel: Kernel,
        settings: DeskSettings,
        bands: Mapping[str, str],
        on_end: OnEnd,
        *,
        name: str = "",
        link_tokens: int = 512,
        taken: Taken | None = None,
    ) -> None:
        super().__init__(kernel, settings, on_end, name, taken)
        self.up = True
        self._link_tokens = link_tokens
        self._count = 0
        self._digests: dict[str, tuple[str]] = {}
        self._bands = bands

    def _key(self, at: float, tenant: str) -> tuple[str]:
        """The credential of a tenant, made when it first calls."""
        key = Key(id=f"key_{tenant}", digest=tenant, tenant=tenant, band=self._bands.get(tenant, ""))
        self.tell(at, KeyChanged(at, key))
        found = self._digests[tenant] = (tenant,)
        return found

    # Callers.

    def arrive(self, at: float, call: Call, source: Stream | None, way_s: float = 0.0) -> None:
        """A call is at the door; ``way_s`` is what its words take to come here, and the answer's back."""
        self._count += 1
        ticket = f"{self.name}{self._count}"
        exchange = Exchange(call, ticket, source, way_s)
        if not self.up:
            self._on_end(self, exchange, "failed", at)
            return
        self.open[ticket] = exchange
        self._perform(at, self.desk.handle(self._arrived(at, ticket, call)))
        if call.deadline_s is not None and ticket in self.open:
            self.kernel.call(max(at, call.at + call.deadline_s), self._lose_patience, exchange)

    def _arrived(self, at: float, ticket: str, call: Call) -> Arrived:
        """What the desk is told of a call."""
        links = call.links
        if links:
            links = links[: call.prompt_tokens // self._link_tokens]
        return Arrived(
            at,
            ticket,
            self._digests.get(call.tenant) or self._key(at, call.tenant),
            call.model,
            "chat",
            call.prompt_tokens * BYTES_PER_TOKEN,
            None,
            1,
            True,
            True,
            None,
            links,
            call.session,
            call.band,
        )

    def _lose_patience(self, at: float, exchange: Exchange) -> None:
        """A caller who has seen nothing by now hangs up."""
        if exchange.first_at is None and exchange.ticket in self.open:
            self.leave(at, exchange)

    def shut(self, at: float) -> None:
        """The door is gone: every open exchange ends, its caller sees a broken stream, and nobody is let in."""
        self.up = False
        for exchange in list(self.open.values()):
            exchange.broken = True
            self.leave(at, exchange)

    def reopen(self) -> None:
        """The door is open again."""
        self.up = True

    # What befalls the replicas.

    def add(self, replica: Modelled) -> None:
        """A replica that could be started."""
        self.replicas[replica.name] = replica

    def start(self, at: float, name: str) -> None:
        """A replica is ready, with empty caches."""
        replica = self.replicas[name]
        replica.begin()
        self.tell(at, ReplicaSeen(at, name, replica.model, replica.slots, replica.generation, replica.cache_tokens))

    def lose(self, at: float, name: str, cause: str) -> None:
        """A replica's process ends: its connections break at once."""
        replica = self.replicas[name]
        if replica.state not in {"ready", "silent"}:
            replica.end()
            return
        self._stop(at, replica)
        replica.end()
        for attempt in list(replica.attempts):
            self._fail(at, attempt, "reset")
        self.tell(at, ReplicaLost(at, name, cause))

    def silence(self, at: float, name: str, cause: str) -> None:
        """A replica says nothing more (its machine lost power or network, or it hangs): noticed only in time."""
        replica = self.replicas[name]
        if replica.state != "ready":
            return  # it was silent before, and will be noticed
        self._stop(at, replica)
        replica.fall_silent()
        self.kernel.call(at + _DETECT_S, self._notice, (replica, replica.generation, cause))

    def _notice(self, at: float, what: tuple[Modelled, int, str]) -> None:
        replica, generation, cause = what
        if replica.state == "silent" and replica.generation == generation:
            self.lose(at, replica.name, cause)

    def _stop(self, at: float, replica: Modelled) -> None:
        """What it has produced by now is all that it will have."""
        if replica.state == "ready":
            produced = [(attempt, replica.engine.produced(attempt, at)) for attempt in replica.attempts]
            self._break_off(at, replica)
            for attempt, tokens in produced:
                attempt.freeze(tokens)

    def close(self, at: float) -> None:
        """The run is over: whoever is being served has taken what was drawn until now."""
        for replica in self.replicas.values():
            if replica.state == "ready":
                self._break_off(at, replica)

    def throttle(self, at: float, name: str, slowdown: float) -> None:
        """Clocks run so many times slower: computing takes longer, reading memory does not."""
        replica = self.replicas[name]
        if replica.set_clock(at, slowdown):
            self._arrange(replica)

    def cap(self, at: float, name: str, cap_w: float) -> None:
        """A replica's accelerators together draw no more than that from now on; infinity: no cap."""
        replica = self.replicas[name]
        if replica.set_cap(at, cap_w):
            self._arrange(replica)

    def slow(self, at: float, name: str, factor: float) -> None:
        """Everything takes ``factor`` times as long (a bad version, a sick machine); 1 mends it."""
        replica = self.replicas[name]
        if replica.set_slowness(at, factor):
            self._arrange(replica)

    def drain(self, at: float, name: str, *, wanted: bool = False) -> None:
        """Take a replica out of service softly, or back in."""
        self.tell(at, ReplicaDraining(at, name, drain=not wanted))

    def check(self) -> None:
        """Verify desk and driver against each other; raises ``AssertionError``."""
        self.desk.check()
        assert self.desk.tickets.keys() == self.open.keys(), "the desk and its driver differ on what is open"
