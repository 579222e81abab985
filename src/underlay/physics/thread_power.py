"""How many watts does one busy hardware thread add to a server that is on anyway?

The last resort where nothing meters the processors: what the whole server draws at full load above idle, at the
wall (SPECpower_ssj2008, two sockets), over its hardware threads. For two EPYC 9965 that is 694 W over 768
threads, 0.90 W each; idle, each has 0.20 W of the server's share, which is not counted here.

It is a band, not a number. A thread whose core is otherwise idle has the core's whole watts: times the threads of
a core at the top. A thread that waits for memory, as those of a decoding engine do, draws less than one that
computes; nobody published how much less, and half is assumed at the bottom. A processor that is not in the table
gets the median of its maker's, from half the least of them to twice the most; one that is no server's at all gets
up to 9 W, which is what desktop-class parts come to in the same collection
(cloud-carbon-footprint/ccf-coefficients, EPYC 4005).

Refused here: clocks, processes, and which processor a machine has; the name is handed in as its kernel tells it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import median
from typing import Literal, NamedTuple

from underlay.physics.host_power import Cpu, cpus

#: The least of what a computing thread draws that one waiting for memory does: assumed.
WAITING_SHARE = 0.5
#: Watts of a thread of the desktop-class parts that ccf-coefficients files under EPYC of the fifth generation.
DESKTOP_W = 9.0

#: The words by which the makers of the table's processors call theirs.
_SERVERS = ("EPYC", "Xeon")
_NOISE = re.compile(r"\((?:R|TM|tm|r)\)|\bCPU\b|@.*")


class ThreadPower(NamedTuple):
    """Watts at the wall that one busy hardware thread adds, the least and the most, and how that is known."""

    power_w: float
    low_w: float
    high_w: float
    method: Literal["modelled", "assumed"]
    note: str


def thread_power(name: str) -> ThreadPower:
    """A thread of the processor that a kernel calls so (``AMD EPYC 7763 64-Core Processor``), or of one like it."""
    words = _NOISE.sub(" ", name).split()
    for cpu, of in cpus().items():
        if _holds(words, cpu.split()):
            return _known(cpu, of)
    for family in _SERVERS:
        if family in words:
            alike = {cpu: of for cpu, of in cpus().items() if cpu.startswith(family)}
            return _alike(f"{' '.join(words)} is not in the table; the {family} processors of it", alike)
    said = " ".join(words) or "a processor without a name"
    widest = _alike(f"{said} is not in the table; servers' processors of it and desktop-class ones", cpus())
    return widest._replace(high_w=max(widest.high_w, DESKTOP_W))


def _holds(words: list[str], wanted: list[str]) -> bool:
    """Whether the wanted words stand in a row among the others, each as a whole."""
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def _known(cpu: str, of: Cpu) -> ThreadPower:
    added_w = _added_w(of)
    note = f"SPECpower of {cpu}, full load above idle, over {of.threads} threads"
    return ThreadPower(added_w, added_w * WAITING_SHARE, added_w * of.threads_per_core, "modelled", note)


def _alike(note: str, alike: Mapping[str, Cpu]) -> ThreadPower:
    added = [_added_w(of) for of in alike.values()]
    most_w = max(_added_w(of) * of.threads_per_core for of in alike.values())
    return ThreadPower(median(added), min(added) * WAITING_SHARE, most_w, "assumed", note)


def _added_w(of: Cpu) -> float:
    return (of.full_w - of.idle_w) / of.threads
