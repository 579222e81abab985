"""How far the runs are: a bar where a person looks, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from underlay.cli import _says

if TYPE_CHECKING:
    from underlay.twin.trials import Beat, Watch

_LINE_EVERY_S = 15.0
_PAINT_EVERY_S = 0.1


class Pace:
    """How far all runs are together, by simulated time, and how quick they were."""

    def __init__(self, runs: int, now_s: float) -> None:
        self.runs = runs
        self._began_s = now_s
        self._beats: dict[int, Beat] = {}

    def tell(self, number: int, beat: Beat) -> None:
        """A run is so far."""
        self._beats[number] = beat

    @property
    def share(self) -> float:
        """The part that is done, from 0 to 1."""
        parts = [beat.simulated_s / beat.duration_s for beat in self._beats.values() if beat.duration_s > 0]
        return min(1.0, sum(parts) / self.runs)

    def words(self, now_s: float) -> str:
        """Simulated time, requests per second of real time, and how long it will take."""
        beats = [beat for beat in self._beats.values() if beat.duration_s > 0]
        took_s = max(now_s - self._began_s, 1e-9)
        requests = sum(beat.requests for beat in beats)
        parts = [f"simulated {_says.span(sum(beat.simulated_s for beat in beats))}"]
        parts[0] += f" of {_says.span(beats[0].duration_s * self.runs)}" if beats else ""
        if self.runs > 1:
            done = sum(beat.simulated_s >= beat.duration_s for beat in beats)
            parts.append(f"{done} of {self.runs} runs")
        parts.append(f"{requests / took_s:,.0f} requests/s")
        if 0.0 < self.share < 1.0:
            parts.append(f"{_says.span(took_s / self.share * (1.0 - self.share))} left")
        return ", ".join(parts)


@contextmanager
def shown(runs: int, *, quiet: bool) -> Iterator[Watch | None]:
    """What to tell about each run; ``None`` if nobody wants to know."""
    if quiet:
        yield None
    elif _says.colour(sys.stderr):
        with _bar(runs) as watch:
            yield watch
    else:
        yield _lines(runs)


def _lines(runs: int) -> Watch:
    began_s = last_s = time.monotonic()
    pace = Pace(runs, began_s)

    def watch(number: int, beat: Beat) -> None:
        nonlocal last_s
        pace.tell(number, beat)
        now_s = time.monotonic()
        if now_s - last_s >= _LINE_EVERY_S:
            last_s = now_s
            _says.progress(pace.words(now_s))

    return watch


@contextmanager
def _bar(runs: int) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    last_s = 0.0
    pace = Pace(runs, time.monotonic())
    columns: list[Any] = [BarColumn(30), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1.0)

        def watch(number: int, beat: Beat) -> None:
            nonlocal last_s
            pace.tell(number, beat)
            now_s = time.monotonic()
            if now_s - last_s >= _PAINT_EVERY_S:
                last_s = now_s
                progress.update(task, completed=pace.share, description=pace.words(now_s))

        yield watch
