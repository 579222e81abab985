"""All measurements of one engine, in their time: how long its steps are, and what they draw if a meter sees it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from underlay.ledger.steps import costs_of
from underlay.live.calibration.asking import Server
from underlay.live.calibration.metered import Metered, Source, metered
from underlay.live.calibration.power import HOLD_S, QUICK_HOLD_S, Draw, Power, loads
from underlay.live.calibration.sweep import Sample, Sweep, plan
from underlay.live.meters import ladder
from underlay.live.settings import MeterSettings

#: The part of the time in which power is metered.
POWER_SHARE = 0.3
#: What a load takes beside being held: its beginning, and meters that are read once more.
_AROUND = 1.3
_HOLD_LEAST_S = 0.5
#: A load is held for so many readings of the slowest meter, if there is the time; controllers are slow.
_READINGS = 4


class Measured(NamedTuple):
    """What came of it. ``source`` is what metered the draws; None where nothing did, and ``why`` says why."""

    samples: list[Sample]
    overheads_s: list[float]
    draws: list[Draw]
    source: Source | None
    why: str


async def measure(
    server: Server,
    meters: MeterSettings | None,
    seconds: float,
    *,
    quick: bool,
    dice: random.Random,
    progress: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Time and meter for so many seconds; without ``meters``, only time. Raises ``CalibrationFailed``."""
    found: Metered | str = "it was not asked for" if meters is None else await _meters(server, meters)
    share = POWER_SHARE if isinstance(found, Metered) else 0.0
    sweep = Sweep(server, plan(server, quick=quick), dice)
    await sweep.run(seconds * (1.0 - share), lambda done: progress(done * (1.0 - share)))
    if isinstance(found, str):
        return Measured(sweep.samples, sweep.overheads_s, [], None, found)
    held = loads(server, quick=quick)
    wanted_s = max(QUICK_HOLD_S if quick else HOLD_S, _READINGS * found.pause_s)
    hold_s = max(_HOLD_LEAST_S, min(wanted_s, seconds * share / (_AROUND * len(held))))
    with found:
        power = Power(server, costs_of(server.model), found.count, dice)
        await power.run(held, seconds * share, hold_s, lambda done: progress(1.0 - share + done * share))
    return Measured(sweep.samples, sweep.overheads_s, power.draws, found.source, "")


async def _meters(server: Server, settings: MeterSettings) -> Metered | str:
    """The meters that see the engine, or why there are none."""
    if server.pid is None and not _is_loopback(server.address[0]):
        return "the engine is on another machine, which no meter here sees"
    pids = [] if server.pid is None else [server.pid]
    found = await asyncio.to_thread(ladder.look, settings, lambda: pids)
    return metered(found, settings.every_ms / 1e3, started=server.pid is not None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
