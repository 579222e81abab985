"""Reads every meter now and then, beside the requests, and keeps what they said for a while.

A thread for each family of meters: one that is slow to answer holds up only its own kind, and never the loop that
serves. Readings are not made up for: after the process was stopped, or a meter took long, the next one is due a
whole pause later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from underlay.live.meters.meter import Meter, Reading
from underlay.live.meters.track import Total, Track, Window

log = structlog.get_logger("underlay.meters")

#: How long readings are kept: longer than most answers take.
KEPT_S = 600.0
#: How long the threads have to end.
_STOP_S = 2.0


class Sampler:
    """Reads meters every ``every_s`` seconds, or as often as each makes sense. Started and stopped once."""

    def __init__(self, every_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._tracks: tuple[Track, ...] = ()
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def start(self, meters: Sequence[Meter]) -> None:
        """Begin to read; nothing at all happens without meters."""
        tracks = {meter.id: Track(meter, self._kept(meter)) for meter in meters}
        families: dict[str, list[Track]] = {}
        for track in tracks.values():
            families.setdefault(track.meter.family, []).append(track)
        self._threads = [
            threading.Thread(target=self._run, args=(mine,), name=f"underlay-meters-{family}", daemon=True)
            for family, mine in families.items()
        ]
        self._tracks = tuple(tracks.values())
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop reading; returns when the threads have ended, or after two seconds: a driver may hang for ever."""
        self._over.set()
        for track in self._tracks:
            track.meter.interrupt()
        until = time.monotonic() + _STOP_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck:
            log.warning("meters do not stop", threads=stuck, effect="they end with the process")

    def windows(self, begin_s: float, end_s: float) -> list[Window]:
        """What each meter counted between two monotonic times. Raises ``ValueError`` if the second is not later."""
        return [track.window(begin_s, end_s) for track in self._tracks]

    def totals(self) -> list[Total]:
        """What each meter has counted so far."""
        return [track.total() for track in self._tracks]

    def _pause_s(self, meter: Meter) -> float:
        return max(self._every_s, meter.every_s)

    def _kept(self, meter: Meter) -> int:
        return max(2, round(KEPT_S / self._pause_s(meter)))

    def _run(self, tracks: Sequence[Track]) -> None:
        """Read the meters of one family until it is over."""
        pause_s = max(self._pause_s(track.meter) for track in tracks)
        due_s = self._clock()
        try:
            while not self._over.wait(max(0.0, due_s - self._clock())):
                for track in tracks:
                    track.add(_read(track.meter))
                now_s = self._clock()
                due_s = due_s + pause_s if due_s + pause_s > now_s else now_s + pause_s
        finally:
            for track in tracks:
                track.meter.close()


def _read(meter: Meter) -> Reading | None:
    """Read a meter, and say it once when it begins to fail or works again."""
    failed_before = bool(meter.trouble)
    try:
        reading = meter.read()
    except Exception as error:  # a defect of one meter must not end the others
        meter.trouble = f"{type(error).__name__}: {error}"
        if not failed_before:
            log.exception("a meter fails", meter=meter.id)
        return None
    if reading is None and meter.trouble and not failed_before:
        log.warning("a meter cannot be read", meter=meter.id, why=meter.trouble)
    elif reading is not None and failed_before:
        meter.trouble = ""
        log.info("a meter can be read again", meter=meter.id)
    return reading
