"""Which meters has this machine, best first, and why not the others?

The rungs: the host's management controller (everything, coarsely); the accelerators' own counters; the
processors' and their memory's; and, where nothing meters the processors, a model of what the engines' processor
time takes. An outer meter and the inner ones are kept side by side: they check each other. Only for the sum of
the host is one of them left out, so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from underlay.domain import figures
from underlay.domain.figures import Figure
from underlay.live.meters import ipmi, nvml, processor, rapl
from underlay.live.meters.meter import Found, Meter
from underlay.live.settings import MeterSettings

NODE = "host"
ACCELERATOR = "host/accelerator"
OFF = "turned off in the settings"


class Rung(NamedTuple):
    """One kind of meter: those that are taken, and why some or all are not.

    ``wrong``: asked for in the settings, and failing now; it is taken all the same, and asked again.
    """

    name: str
    meters: tuple[Meter, ...]
    why: str
    fix: str = ""
    wrong: bool = False

    @property
    def message(self) -> str:
        """What is taken, and what is not, in words."""
        taken = "; ".join(f"{meter.id} ({meter.method}): {meter.boundary.words}" for meter in self.meters)
        left = f"{'fails now' if self.wrong else 'not taken'}: {self.why}" if self.why else ""
        return "; ".join(part for part in (taken, left) if part)


class Parts(NamedTuple):
    """What meters counted in a window: of what steps run on, of the host beside it, and of the whole node.

    ``host`` is there only beside accelerators, ``node`` only where it holds more than the devices.
    """

    devices: Figure
    host: Figure | None = None
    node: Figure | None = None


class Ladder(NamedTuple):
    """The rungs, best first."""

    rungs: tuple[Rung, ...]

    @property
    def meters(self) -> tuple[Meter, ...]:
        """All that are taken, best first."""
        return tuple(meter for rung in self.rungs for meter in rung.meters)

    def describe(self) -> list[str]:
        """Each rung in a line, and what the host's sum is made of."""
        lines = [f"{rung.name}: {rung.message}" for rung in self.rungs]
        return [*lines, f"sum of the host: {self.host_message}"]

    @property
    def host_message(self) -> str:
        """What the sum of the host is made of while every meter can be read, and what that leaves out."""
        chosen = disjoint(self.meters)
        if not chosen:
            return "none; nothing here is metered, and no joules are told"
        names = " + ".join(meter.id for meter in chosen)
        if any(meter.boundary.place == "host" for meter in chosen):
            return names
        modelled = any(meter.family == "processor" for meter in chosen)
        return f"{names}; without {'idle power' if modelled else 'power supplies, fans, drives'}"

    def host(self, read: Mapping[str, Figure]) -> Figure | None:
        """The sum of the host from what meters counted in one window, by their ids.

        Where an outer meter could not be read, its parts stand in for it; ``None`` where one of them could not
        either: a sum with a hole is none.
        """
        chosen = disjoint(meter for meter in self.meters if meter.id in read or not self._has_parts(meter))
        if not chosen or any(meter.id not in read for meter in chosen):
            return None
        return figures.total([read[meter.id] for meter in chosen])

    def parts(self, read: Mapping[str, Figure]) -> Parts | None:
        """A window of the host by what its meters cover; ``None`` where there is a hole in it.

        Steps run on the accelerators where these are metered, else on the processors where these have counters of
        their own, else on what ``host`` adds up. Where one of the inner meters could not be read, the outer one
        stands in for all of them.
        """
        inner = disjoint(meter for meter in self.meters if meter.boundary.place != NODE)
        accelerators = [meter for meter in inner if meter.boundary.place.startswith(ACCELERATOR)]
        board = [meter for meter in inner if meter not in accelerators]
        counted = accelerators or [meter for meter in board if meter.family != "processor"]
        node = next((read[m.id] for m in self.meters if m.boundary.place == NODE and m.id in read), None)
        if not counted or any(meter.id not in read for meter in counted):
            whole = self.host(read)
            return None if whole is None else Parts(whole)
        devices = figures.total([read[meter.id] for meter in counted])
        host = None
        if accelerators and board and all(meter.id in read for meter in board):
            host = figures.total([read[meter.id] for meter in board])
        if accelerators and board and host is None and node is None:
            return None
        return Parts(devices, host, node)

    def _has_parts(self, meter: Meter) -> bool:
        return any(other.boundary.place.startswith(f"{meter.boundary.place}/") for other in self.meters)


def disjoint(meters: Iterable[Meter]) -> tuple[Meter, ...]:
    """The first of them, and each further one that overlaps none taken before."""
    chosen: list[Meter] = []
    for meter in meters:
        if not any(meter.boundary.overlaps(other.boundary) for other in chosen):
            chosen.append(meter)
    return tuple(chosen)


def look(settings: MeterSettings, pids: processor.Pids, probes: Mapping[str, Callable[[], Found]] = {}) -> Ladder:
    """Look for the meters of this machine; ``pids`` tells the engines' processes, whenever asked.

    May take some seconds, where a controller is slow: never call it on the loop. ``probes`` replace those of the
    machine by family.
    """
    outer = probes.get("redfish", lambda: _outer(settings))()
    inner = _unless_off(settings.nvml, probes.get("nvml", nvml.find))
    board = _unless_off(settings.rapl, probes.get("rapl", rapl.find))
    rungs = [_rung("host", outer), _rung("accelerators", inner), _rung("processors and memory", board)]
    if board.meters:
        last = Found((), "the processors have meters")
    else:
        last = probes.get("processor", lambda: processor.find(pids))()
    return Ladder((*rungs, _rung("processor time of the engines", last)))


def _outer(settings: MeterSettings) -> Found:
    """The management controller, by what the settings ask it; they name one way at the most."""
    if settings.ipmi.mode == "auto":
        return ipmi.find(settings.ipmi)
    if settings.redfish.url is None:
        return Found((), "no controller is set (meters.redfish.url, or meters.ipmi.mode)")
    from underlay.live.meters import redfish  # noqa: PLC0415  # its client takes longer to load than all the rest

    return redfish.find(settings.redfish)


def _rung(name: str, found: Found) -> Rung:
    return Rung(name, found.meters, found.why, found.fix, found.wrong)


def _unless_off(setting: str, find: Callable[[], Found]) -> Found:
    return Found((), OFF) if setting == "off" else find()
