"""How long until a replica that was told to start is ready, given who else is starting?

Weights come over the network to the local drives of each of its servers, once; from there into the accelerators, as
fast as the engine loads them; then the engine initialises. The network is shared, so a storm of starts is slower
than one. What a server has fetched it keeps until its drives are full of what was used later, or until it is
replaced. Several replicas that want the same weights on one server wait for one fetch. The engine's own files are
taken to be there. Refused here: whether a start is wise or allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from underlay.physics.catalogue import model as model_named
from underlay.physics.links import link_kind
from underlay.physics.storage import engine_start, storage_kind
from underlay.twin.kernel import Kernel
from underlay.twin.world.fabric import Fabric
from underlay.twin.world.placement import Placement, Slot
from underlay.twin.world.sharing import Stream

Source = Literal["object-store", "storage", "disk"]
Phase = Literal["fetching", "loading", "initialising"]

Ready = Callable[[float, str], None]


class Weights(NamedTuple):
    """What a replica loads: equal ``name`` means equal bytes."""

    name: str
    bytes: float
    layers: int

    @classmethod
    def of(cls, model: str, precision: str) -> Weights:
        """Those of a model in the catalogue. Errors: NotFound, BadRequest."""
        found = model_named(model)
        return cls(f"{model} {precision}", found.weight_bytes(precision), found.layers)


@dataclass(frozen=True, slots=True)
class StartSettings:
    """Where weights come from (``disk``: they are on every server), and what a server can.

    ``fetch_bytes_s``: the best that one server of 100 Gb/s reached from an object store (``s3-c5n``).
    ``cache_bytes``: four drives of 3.84 TB, assumed. The others are published, see ``physics.storage`` and
    ``physics.links``; 0 for ``initialise_s`` means by the layers of the model.
    """

    source: Source = "object-store"
    fetch_bytes_s: float = storage_kind("s3-c5n").read_bytes_s or 0.0
    load_bytes_s: float = engine_start().load_bytes_s
    cache_bytes: float = 15.36e12
    initialise_s: float = 0.0


class Started(NamedTuple):
    """A start that came to its end, and how long its phases took."""

    replica: str
    began_at: float
    fetch_s: float
    load_s: float
    initialise_s: float
    fetched_bytes: float


class _Fetch:
    """Weights on their way to one server, and who waits for them."""

    __slots__ = ("bytes", "key", "stream", "waiting")

    def __init__(self, key: tuple[int, str], bytes_: float) -> None:
        self.key = key
        self.bytes = bytes_
        self.stream: Stream | None = None
        self.waiting: dict[str, None] = {}


class _Start:
    """A start under way. ``open`` counts the servers that its phase still waits for."""

    __slots__ = (
        "began_at",
        "fetched_at",
        "fetched_bytes",
        "loaded_at",
        "open",
        "phase",
        "slots",
        "streams",
        "weights",
    )

    def __init__(self, weights: Weights, slots: tuple[Slot, ...], at: float) -> None:
        self.weights = weights
        self.slots = slots
        self.began_at = at
        self.fetched_at = at
        self.loaded_at = at
        self.fetched_bytes = 0.0
        self.phase: Phase = "fetching"
        self.open = 0
        self.streams: list[Stream] = []

    def share(self, slot: Slot) -> float:
        """The bytes that go to one server: the weights are split evenly over the accelerators."""
        return self.weights.bytes * slot.accelerators / sum(each.accelerators for each in self.slots)


class ColdStart:
    """All starts. ``ready(at, replica)`` is called when one has come to its end."""

    def __init__(
        self, kernel: Kernel, fabric: Fabric, placement: Placement, settings: StartSettings, ready: Ready
    ) -> None:
        self.kernel = kernel
        self.fabric = fabric
        self.placement = placement
        self.settings = settings
        self.ready = ready
        self.started: list[Started] = []
        self._starts: dict[str, _Start] = {}
        self._fetches: dict[tuple[int, str], _Fetch] = {}
        self._cached: dict[int, dict[str, float]] = {}

    def begin(self, replica: str, at: float, weights: Weights) -> None:
        """Start a replica that has its accelerators, now; one that is starting already begins again.

        Errors: KeyError if it has none.
        """
        self.cancel(replica)
        start = self._starts[replica] = _Start(weights, self.placement.slots[replica], at)
        for slot in start.slots:
            if not self._has(slot.server, weights.name, start.share(slot)):
                start.open += 1
                start.fetched_bytes += self._fetch(replica, slot.server, weights.name, start.share(slot))
        if not start.open:
            self._load(replica, start)

    def cancel(self, replica: str) -> None:
        """Give a start up, if there is one; what others wait for goes on."""
        start = self._starts.pop(replica, None)
        if start is None:
            return
        for stream in start.streams:
            self.fabric.links.cancel(stream)
        for slot in start.slots:
            fetch = self._fetches.get((slot.server, start.weights.name))
            if fetch is None or replica not in fetch.waiting:
                continue
            del fetch.waiting[replica]
            if not fetch.waiting and fetch.stream is not None:
                self.fabric.links.cancel(fetch.stream)
                del self._fetches[fetch.key]

    def phase(self, replica: str) -> Phase | None:
        """What a start is at, if there is one."""
        start = self._starts.get(replica)
        return start.phase if start else None

    def forget(self, server: int) -> None:
        """A server was replaced: its drives are empty."""
        self._cached.pop(server, None)

    def _has(self, server: int, name: str, bytes_: float) -> bool:
        if self.settings.source == "disk":
            return True
        cache = self._cached.get(server, {})
        if cache.get(name, 0.0) < bytes_:
            return False
        cache[name] = cache.pop(name)  # used last
        return True

    def _fetch(self, replica: str, server: int, name: str, bytes_: float) -> float:
        """Fetch weights to a server, or wait for who does already; the bytes that are sent for it."""
        key = (server, name)
        fetch = self._fetches.get(key)
        sent = 0.0
        if fetch is None or fetch.bytes < bytes_:
            if fetch is not None and fetch.stream is not None:
                self.fabric.links.cancel(fetch.stream)
            waiting = fetch.waiting if fetch else {}
            fetch = self._fetches[key] = _Fetch(key, bytes_)
            fetch.waiting = waiting
            path = self.fabric.to_server(self.placement.topology.servers[server], self.settings.source)
            fetch.stream = self.fabric.links.begin(
                path, bytes_, self._fetched, fetch, min(self.settings.fetch_bytes_s, _write_bytes_s())
            )
            sent = bytes_
        fetch.waiting[replica] = None
        return sent

    def _fetched(self, at: float, fetch: _Fetch) -> None:
        server, name = fetch.key
        del self._fetches[fetch.key]
        cache = self._cached.setdefault(server, {})
        cache.pop(name, None)
        cache[name] = fetch.bytes
        while sum(cache.values()) > self.settings.cache_bytes and len(cache) > 1:
            del cache[next(iter(cache))]
        for replica in fetch.waiting:
            start = self._starts[replica]
            start.open -= 1
            if not start.open:
                start.fetched_at = at
                self._load(replica, start)

    def _load(self, replica: str, start: _Start) -> None:
        start.phase = "loading"
        start.open = len(start.slots)
        bus_bytes_s = link_kind("pcie5-x16").bytes_s or 0.0
        for slot in start.slots:
            disk = self.fabric.disk(self.placement.topology.servers[slot.server])
            ceiling = min(self.settings.load_bytes_s, bus_bytes_s * slot.accelerators)
            links = self.fabric.links
            start.streams.append(links.begin([disk], start.share(slot), self._loaded, (replica, start), ceiling))

    def _loaded(self, at: float, what: tuple[str, _Start]) -> None:
        _, start = what
        start.open -= 1
        if start.open:
            return
        start.phase = "initialising"
        start.loaded_at = at
        takes_s = self.settings.initialise_s or engine_start().initialise_s(start.weights.layers)
        self.kernel.call(at + takes_s, self._initialised, what)

    def _initialised(self, at: float, what: tuple[str, _Start]) -> None:
        replica, start = what
        if self._starts.get(replica) is not start:
            return
        del self._starts[replica]
        fetch_s, load_s = start.fetched_at - start.began_at, start.loaded_at - start.fetched_at
        self.started.append(
            Started(replica, start.began_at, fetch_s, load_s, at - start.loaded_at, start.fetched_bytes)
        )
        self.ready(at, replica)


def _write_bytes_s() -> float:
    """Four local drives at once, writing; see ``fabric.LinkRates``."""
    return 4.0 * (storage_kind("nvme-pcie5").write_bytes_s or 0.0)
