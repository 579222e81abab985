"""What kinds of links are there, and what does a link cost a message or a stream when it is loaded or lossy?

Rates and latencies are published figures (``data/links.csv``); where no source gives one, it is ``None``, and
whoever builds a network says what it assumes. Refused here: topologies, flows and their shares, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf, sqrt

from underlay.physics.lookup import named
from underlay.physics.tables import rows

#: Senders hand their network card up to 64 KB at once (segmentation offload): the unit in which queues are served.
BURST_BYTES = 65536.0
#: Payload of one packet on an Ethernet with 1,500-byte frames.
SEGMENT_BYTES = 1460.0
#: The shortest wait for an acknowledgement before a packet is sent again, as Linux has it (TCP_RTO_MIN). RFC 6298
#: would have it 1 s.
RETRANSMIT_S = 0.2


@dataclass(frozen=True, slots=True)
class LinkKind:
    """One kind of link. ``bytes_s`` is one way; ``latency_s`` from ... to, of one crossing."""

    id: str
    group: str
    name: str
    bytes_s: float | None
    latency_s: float | None
    latency_most_s: float | None
    source: str


def link_kind(name: str) -> LinkKind:
    """The kind of link with this id. Errors: NotFound, with what was perhaps meant."""
    return named(link_kinds(), name, "kind of link")


@cache
def link_kinds() -> Mapping[str, LinkKind]:
    """All, by id."""
    return {
        row["id"]: LinkKind(
            id=row["id"],
            group=row["class"],
            name=row["name"],
            bytes_s=float(row["gb_s"]) * 1e9 if row["gb_s"] else None,
            latency_s=float(row["latency_us"]) * 1e-6 if row["latency_us"] else None,
            latency_most_s=float(row["latency_most_us"]) * 1e-6 if row["latency_most_us"] else None,
            source=row["source"],
        )
        for row in rows("links.csv")
    }


def queueing_s(utilisation: float, bytes_s: float, buffer_s: float) -> float:
    """How long a message waits behind others on a link, on average.

    The mean wait of a queue with one server and chance arrivals (M/M/1), rho / (1 - rho) services, each of one
    burst; never more than the buffer before the link holds (``buffer_s``), as what comes on top of a full one is
    dropped. A link that bulk streams fill (rho = 1) has a full buffer: they speed up until they lose packets.
    """
    if utilisation >= 1.0:
        return buffer_s
    if utilisation <= 0.0:
        return 0.0
    return min(utilisation / (1.0 - utilisation) * BURST_BYTES / bytes_s, buffer_s)


def retransmission_s(round_trip_s: float) -> float:
    """How much later a message of one packet arrives for each time that it is lost.

    Nothing follows it that would tell the sender, so a timer must: two round trips (tail loss probe, RFC 8985), at
    least ``RETRANSMIT_S``. Backing off is left out: two losses in a row are rare where anything works at all.
    """
    return max(RETRANSMIT_S, 2.0 * round_trip_s)


def lossy_ceiling_bytes_s(loss: float, round_trip_s: float, connections: int) -> float:
    """What TCP reaches at most across a lossy path, over so many connections at once.

    Mathis, Semke, Mahdavi and Ott, The macroscopic behavior of the TCP congestion avoidance algorithm, CCR 27(3),
    1997: one connection reaches segment / round trip x sqrt(3/2) / sqrt(loss).
    """
    if loss <= 0.0 or round_trip_s <= 0.0:
        return inf
    return connections * SEGMENT_BYTES / round_trip_s * sqrt(1.5 / loss)
