"""Who took the joules of a server, and of what feeds and cools it?

    node meter = device meters + host of requests + host_shared + residual
    facility   = node meter times PUE;  overhead = (PUE - 1) times each entry, added on top of the meter

What the host drew above its idle watts, in the part of its processor time that was the model server's, goes to the
requests by their tokens in the window (read and decoded alike: what the host does for a token is to carry it). The
rest is ``host_shared``. Without a meter of the host the node ends at its devices; with one of the node only, what
is not the devices' is the host's. ``residual`` is what the meters disagree about, and alone may be below 0.

PUE is of a site and a year: a mean that no window is held to. Refused here: which meters there are, and where.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from msgspec import Struct

from underlay.domain.figures import Figure, Method, total, weakest
from underlay.ledger.attribution import CLOSES, LEAST, Entry, WindowAccounts

NODE_ACCOUNTS = ("host", "host_shared", "residual", "overhead")
DEVICES_ONLY = "accelerators, without their host"
IT = "server: accelerators and host"
FACILITY = "facility: servers, and power and cooling for them"


class Host(Struct, frozen=True):
    """A host's joules in a window, its idle watts, and the model server's share of its processor time (0 to 1)."""

    joules: Figure
    idle: Figure
    server_share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.server_share <= 1.0:
            raise ValueError(f"A share of processor time is from 0 to 1, got {self.server_share:g}.")


class NodeAccounts(Struct, frozen=True):
    """A server's window: its devices', and entries for what is not theirs. ``facility`` is None without a PUE."""

    begin_s: float
    end_s: float
    devices: tuple[WindowAccounts, ...]
    entries: tuple[Entry, ...]
    entries_made: int
    it: Figure
    facility: Figure | None
    host_meter: str

    def totals(self) -> dict[str, float]:
        """The joules of every account, devices' included; those that nobody could tell are not there."""
        sums: dict[str, float] = {}
        for device in self.devices:
            for account, joules in device.totals().items():
                sums[account] = sums.get(account, 0.0) + joules
        for entry in self.entries:
            sums[entry.account] = sums.get(entry.account, 0.0) + entry.joules
        return sums

    def check(self) -> None:
        """Both sums above and those of the devices, to 1e-9. Raises ``AssertionError``."""
        for device in self.devices:
            device.check()
        assert len(self.entries) == self.entries_made, (
            f"{self.entries_made - len(self.entries)} entries were dropped"
        )
        assert all(entry.account in NODE_ACCOUNTS for entry in self.entries), "no such account"
        inside = [entry.joules for entry in self.entries if entry.account != "overhead"]
        inside += [device.meter.value for device in self.devices]
        size = sum(map(abs, inside))
        assert isclose(sum(inside), self.it.value, rel_tol=0.0, abs_tol=CLOSES * size + LEAST), (
            f"{sum(inside)} J booked of {self.it.value} J of the server"
        )
        over = [entry.joules for entry in self.entries if entry.account == "overhead"]
        if self.facility is not None:
            assert isclose(
                self.it.value + sum(over), self.facility.value, abs_tol=CLOSES * (size + abs(sum(over))) + LEAST
            ), f"{sum(over)} J of overhead on {self.it.value} J do not make {self.facility.value} J"
        else:
            assert not over, "overhead without a PUE"


def node_accounts(
    devices: Sequence[WindowAccounts],
    host: Host | None = None,
    *,
    node_meter: Figure | None = None,
    pue: Figure | None = None,
) -> NodeAccounts:
    """The accounts of a server over one window of all its devices. Errors: ValueError for unlike windows."""
    if len({(device.begin_s, device.end_s) for device in devices}) != 1:
        raise ValueError("The devices of a server are closed by the same windows.")
    if pue is not None and pue.value < 1.0:
        raise ValueError(f"No site has a PUE below 1, got {pue.value:g}.")
    begin_s, end_s = devices[0].begin_s, devices[0].end_s
    metered = total([device.meter for device in devices])
    entries: list[Entry] = []
    if host is not None:
        entries = _host(host, devices, end_s - begin_s)
    elif node_meter is not None:
        rest = max(node_meter.value - metered.value, 0.0)
        entries = [Entry("host_shared", "", rest, node_meter.method, _added(node_meter, metered))]
    it = metered if host is None else total([metered, host.joules])
    it = it.times(1.0, boundary=DEVICES_ONLY if host is None else IT)
    if node_meter is not None:
        residual = node_meter.value - metered.value - sum(entry.joules for entry in entries)
        entries.append(Entry("residual", "", residual, node_meter.method, _added(node_meter, it)))
        it = node_meter.times(1.0, boundary=IT)
    if pue is not None:
        entries += _overhead([*(entry for device in devices for entry in device.entries), *entries], pue)
    return NodeAccounts(
        begin_s=begin_s,
        end_s=end_s,
        devices=tuple(devices),
        entries=tuple(entries),
        entries_made=len(entries),
        it=it,
        facility=None if pue is None else it.by(pue, unit="J", boundary=FACILITY),
        host_meter=host.joules.meter if host is not None else (node_meter.meter if node_meter is not None else ""),
    )


def _host(host: Host, devices: Sequence[WindowAccounts], window_s: float) -> list[Entry]:
    """The requests' parts of a host by their tokens, and what is nobody's."""
    joules, off = host.joules.value, host.joules.uncertainty
    active_j = max(joules - host.idle.value * window_s, 0.0) * host.server_share
    tokens: dict[str, float] = {}
    for entry in (entry for device in devices for entry in device.entries if entry.tokens):
        tokens[entry.request] = tokens.get(entry.request, 0.0) + entry.tokens
    counted = sum(tokens.values())
    method: Method = weakest((host.joules.method, host.idle.method, "modelled"))
    shared_j = active_j if not counted else 0.0
    entries = []
    for request, count in tokens.items():
        part_j = active_j * (count / counted)
        entries.append(Entry("host", request, part_j, method, _part(off, part_j, joules)))
    shared_j += joules - active_j
    entries.append(Entry("host_shared", "", shared_j, method, _part(off, shared_j, joules)))
    return entries


def _overhead(within: Sequence[Entry], pue: Figure) -> list[Entry]:
    """(PUE - 1) times what each request has in the server, and times what is nobody's."""
    above = pue.value - 1.0
    sums: dict[str, list[Entry]] = {"": []}
    for entry in within:
        sums.setdefault(entry.request, []).append(entry)
    found = []
    for request, theirs in sums.items():
        joules = sum(entry.joules for entry in theirs)
        off = None
        known = [entry.reading_j + entry.split_j for entry in theirs if entry.reading_j is not None]
        if pue.uncertainty is not None and len(known) == len(theirs):
            off = above * sum(known) + pue.uncertainty * (abs(joules) + sum(known))
        method = weakest([pue.method, *(entry.method for entry in theirs)])
        found.append(Entry("overhead", request, joules * above, method, off))
    return found


def _part(off: float | None, part_j: float, of_j: float) -> float | None:
    return None if off is None else (off * part_j / of_j if of_j > 0.0 else off)


def _added(one: Figure, other: Figure) -> float | None:
    return None if one.uncertainty is None or other.uncertainty is None else one.uncertainty + other.uncertainty
