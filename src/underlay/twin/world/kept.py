"""What does it take to keep weights where replicas fetch them from?

One copy of each in the object store of every region where they run, or in the shared file system of every such
site, all the time; on the servers' own drives they are in the hosts' energy. Told beside the feeders' sum, never in
it.
Refused here: how long fetching takes.
"""

from __future__ import annotations

from underlay.domain.figures import JOULES_KWH
from underlay.ledger.modelled import storage
from underlay.twin.records import Account
from underlay.twin.world.storage import Source, Weights
from underlay.twin.world.topology import Level, Node

_LEVELS: dict[Source, Level] = {"object-store": "region", "storage": "site"}


class Kept:
    """The weights of a run, by where they lie."""

    def __init__(self, source: Source) -> None:
        self._level = _LEVELS.get(source)
        self._bytes: dict[str, dict[tuple[str, str], float]] = {}

    def add(self, server: Node, weights: Weights) -> None:
        """They run on that server; whoever else runs them there shares the copy."""
        if self._level is not None:
            kept = self._bytes.setdefault(server.up("region").path, {})
            kept[server.up(self._level).path, weights.name] = weights.bytes

    def accounts(self, at: float) -> list[Account]:
        """What keeping them took in each region until now."""
        found = []
        for region, kept in self._bytes.items():
            figure = storage(sum(kept.values()), at).times(1.0 / JOULES_KWH, unit="kWh")
            found.append(Account(region, "storage", figure))
        return found
