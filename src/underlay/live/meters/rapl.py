"""The energy counters of x86 processors, as Linux shows them (``/sys/class/powercap``; AMD's too).

Taken are the packages and the memory beside them, of every socket. Never taken: ``core`` and ``uncore``, which
the package holds already; ``psys``, which holds the packages; ``intel-rapl-mmio``, which is the same package
again.

A counter runs over at ``max_energy_range_uj``, within minutes at high power. A value below the last is taken for
that only if the time since would allow it at ``POWER_MAX_W``; else the counter was set back, and what it had
counted is lost. Where so much time has passed that it may have run over unseen (the process was stopped), nothing
is known either. Since the side channel of 2020 (CVE-2020-8694) only root may read them; in virtual machines there
are none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from underlay.live.meters.meter import Boundary, Found, Meter, Quantum, Reading, Tally

POWERCAP = Path("/sys/class/powercap")
#: More than this no package draws, nor its memory: assumed, four times what the largest sockets are sold for.
POWER_MAX_W = 2_000.0
#: What one draws at most where the kernel knows no limit of it: what the largest sockets are sold for.
SOCKET_W = 500.0
#: The counters are renewed about every millisecond, and count microjoules here.
QUANTUM = Quantum(0.001, 1e-6)

_PACKAGE = re.compile(r"intel-rapl:\d+\Z")
_PACKAGE_NAME = re.compile(r"package-\d+(?:-die-\d+)?\Z")
_DIGITS = re.compile(rb"\d{1,19}\s*\Z")
_FIX = "run as root, or let this user read: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (a side channel)"


class RaplMeter(Meter):
    """One package or its memory."""

    family = "rapl"

    def __init__(self, zone: Path, name: str, words: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(f"rapl:{name}", Boundary(f"host/board/{name}", words), "measured", QUANTUM)
        limits_uw = [_number(path) or 0 for path in zone.glob("constraint_*_power_limit_uw")]
        self.peak_w = min(max(limits_uw, default=0) / 1e6, POWER_MAX_W) or SOCKET_W
        self._path = zone / "energy_uj"
        self._range_uj = _number(zone / "max_energy_range_uj")
        self._clock = clock
        self._tally = Tally()
        self._last: tuple[float, int] | None = None

    def read(self) -> Reading | None:
        """Read the counter; a value beyond its range is none."""
        try:
            now_uj = _number_or_raise(self._path)
        except (OSError, ValueError) as error:
            self.trouble = _said(error)
            return None
        at_s = self._clock()
        if self._range_uj is not None and now_uj > self._range_uj:
            self.trouble = f"{now_uj} is beyond the range of the counter"
            return None
        if self._last is not None:
            self._count(at_s - self._last[0], self._last[1], now_uj)
        self._last = (at_s, now_uj)
        self.trouble = ""
        return self._tally.reading(at_s)

    def _count(self, seconds: float, before_uj: int, now_uj: int) -> None:
        possible_uj = seconds * POWER_MAX_W * 1e6
        drawn_uj = now_uj - before_uj
        if self._range_uj is not None:
            if possible_uj >= self._range_uj:
                self._tally.lose()
                return
            drawn_uj %= self._range_uj + 1
        if not 0 <= drawn_uj <= max(possible_uj, POWER_MAX_W * QUANTUM.seconds * 1e6):
            self._tally.lose()
            return
        joules = drawn_uj / 1e6
        self._tally.add(joules, joules, joules)


def find(root: Path = POWERCAP) -> Found:
    """The packages and memories of this machine that can be read."""
    zones = sorted(_zones(root), key=lambda zone: zone[1])
    if not zones:
        why = "no powercap here" if not root.is_dir() else f"{root} has no packages"
        return Found((), f"{why}: a virtual machine, a container, or no x86 processor")
    meters, troubles, blind = [], [], False
    for zone, name, words in zones:
        meter = RaplMeter(zone, name, words)
        if meter.read() is None:
            troubles.append(f"{name}: {meter.trouble}")
            blind |= name.startswith("package")
        else:
            meters.append(meter)
    # Some of the packages would be taken for all of them.
    return Found(() if blind else tuple(meters), "; ".join(troubles), _FIX if troubles else "")


def _zones(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Folder, name and description of every zone to take."""
    if not root.is_dir():
        return
    for zone in root.iterdir():
        package = _name(zone) if _PACKAGE.match(zone.name) else ""
        if not _PACKAGE_NAME.match(package):
            continue
        yield zone, package, f"processor {package}, its caches and graphics; not its memory"
        for part in zone.glob(f"{zone.name}:*"):
            if _name(part) == "dram":
                yield part, package.replace("package", "dram"), f"memory of {package}"


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return _number_or_raise(path)
    except (OSError, ValueError):
        return None


def _number_or_raise(path: Path) -> int:
    with path.open("rb", buffering=0) as file:
        text = file.read(64) or b""
    if not _DIGITS.match(text):
        raise ValueError(f"{text[:24]!r} is no count")
    return int(text)


def _said(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "may not be read (root only since CVE-2020-8694)"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
