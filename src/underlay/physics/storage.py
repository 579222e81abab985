"""How fast are weights read, and how long does an engine take to start once it has them?

Read rates are published figures (``data/storage.csv``). The start of an engine is modelled on the few starts of
vLLM whose phases were published (``data/engine_starts.csv``): time by layers, as every layer is traced, compiled
and captured; a time for the process itself; and the rate at which an engine fills the accelerator's memory from
the memory of its host, which the processor bounds and not the bus. Three starts are few: expect 30 % either way.
Refused here: where weights lie, who else reads them, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import exp, log

from underlay.physics.lookup import named
from underlay.physics.tables import rows


@dataclass(frozen=True, slots=True)
class StorageKind:
    """One kind of storage, bytes per second of its reads and writes."""

    id: str
    group: str
    name: str
    read_bytes_s: float | None
    write_bytes_s: float | None
    source: str


@dataclass(frozen=True, slots=True)
class EngineStart:
    """What the published starts come to: seconds for the process and for each layer, bytes per second of loading.

    ``error`` is the mean relative error of the time by layers over the starts that it was fitted to.
    """

    process_s: float
    layer_s: float
    load_bytes_s: float
    error: float

    def initialise_s(self, layers: int) -> float:
        """From the loaded weights to the first request taken, with the start of the process before them."""
        return self.process_s + self.layer_s * layers


def storage_kind(name: str) -> StorageKind:
    """The kind of storage with this id. Errors: NotFound, with what was perhaps meant."""
    return named(storage_kinds(), name, "kind of storage")


@cache
def storage_kinds() -> Mapping[str, StorageKind]:
    """All, by id."""
    return {
        row["id"]: StorageKind(
            id=row["id"],
            group=row["class"],
            name=row["name"],
            read_bytes_s=float(row["read_gb_s"]) * 1e9 if row["read_gb_s"] else None,
            write_bytes_s=float(row["write_gb_s"]) * 1e9 if row["write_gb_s"] else None,
            source=row["source"],
        )
        for row in rows("storage.csv")
    }


@cache
def engine_start() -> EngineStart:
    """The start of an engine, fitted to the published ones.

    The time by layers is a line through zero with the least relative error; the process takes what was not told
    apart in the one start whose whole was published; the rate is the geometric mean of those published.
    """
    starts = list(rows("engine_starts.csv"))
    shares = [float(start["layers"]) / float(start["init_s"]) for start in starts]
    layer_s = sum(shares) / sum(share * share for share in shares)
    untold_s = [
        float(start["total_s"]) - float(start["init_s"]) - float(start["load_s"])
        for start in starts
        if start["total_s"]
    ]
    process_s = sum(untold_s) / len(untold_s)
    rates = [log(float(start["weights_gb"]) * 1e9 / float(start["load_s"])) for start in starts if start["load_s"]]
    return EngineStart(
        process_s=process_s,
        layer_s=layer_s,
        load_bytes_s=exp(sum(rates) / len(rates)),
        error=sum(abs(layer_s * share - 1.0) for share in shares) / len(shares),
    )
