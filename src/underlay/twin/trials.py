"""Runs of several variants with several seeds, side by side in processes of their own.

Each process hands back a summary (and the whole result only where its rows are wanted), and tells how far it is
through memory that it shares with its parent: no queue that could fill up, nothing to pickle while it runs. Whoever
interrupts gets what is finished, and what was running cut short, as partial results that say so.

Refused here: what a variant is, how it is run, signals, and the terminal. ``run`` and ``stop`` are handed in.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, NamedTuple, Protocol

from .records import RunResult
from .summary import Summary, summarise

#: Simulated seconds, of how many, and requests that have ended by then.
Progress = Callable[[float, float, int], None]
Stop = Callable[[], bool]

_POLL_S = 0.1
_BEAT = 3


class RunLost(Exception):
    """The process of a run ended without a word, or with one that cannot be told to its parent."""


class Run(Protocol):
    """One run of a variant. A function of a module, or a partial of one: other processes import it by name."""

    def __call__(self, variant: Any, seed: int, progress: Progress, stop: Stop) -> RunResult:
        """Run until the end, or until ``stop()``; then the result is partial."""
        ...


class Trial(NamedTuple):
    """A variant and a seed."""

    variant: Any
    seed: int


class Ended(NamedTuple):
    """A run that came to an end; ``result`` only where rows were asked for."""

    trial: Trial
    summary: Summary
    result: RunResult | None


class Beat(NamedTuple):
    """How far a trial is."""

    simulated_s: float
    duration_s: float
    requests: int


Watch = Callable[[int, Beat], None]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def conduct(
    trials: Sequence[Trial],
    run: Run,
    stop: Stop,
    *,
    jobs: int = 1,
    watch: Watch | None = None,
    keep_rows: bool = False,
) -> list[Ended]:
    """Run the trials, ``jobs`` at a time, and return those that ran, in the order of ``trials``.

    ``watch`` is told now and then how far the trial of that number is. Raises what ``run`` raises, and ``RunLost``.
    """
    watch = watch or _nobody_watches
    if min(jobs, len(trials)) <= 1:
        return _one_after_the_other(trials, run, stop, watch, keep_rows)
    return _side_by_side(trials, run, stop, watch, keep_rows, min(jobs, len(trials)))


def _nobody_watches(number: int, beat: Beat) -> None:
    pass


def _one_after_the_other(
    trials: Sequence[Trial], run: Run, stop: Stop, watch: Watch, keep_rows: bool
) -> list[Ended]:
    ended = []
    for number, trial in enumerate(trials):
        if stop():
            break

        def progress(simulated_s: float, duration_s: float, requests: int, number: int = number) -> None:
            watch(number, Beat(simulated_s, duration_s, requests))

        ended.append(_ended(trial, run(trial.variant, trial.seed, progress, stop), watch, number, keep_rows))
    return ended


def _ended(trial: Trial, result: RunResult, watch: Watch, number: int, keep_rows: bool) -> Ended:
    simulated_s = min(result.simulated_s, result.duration_s)
    watch(number, Beat(simulated_s, result.duration_s, len(result.requests)))
    return Ended(trial, summarise(result), result if keep_rows else None)


def _side_by_side(
    trials: Sequence[Trial], run: Run, stop: Stop, watch: Watch, keep_rows: bool, jobs: int
) -> list[Ended]:
    # Spawned, not forked: a fork copies threads' locks and the parent's whole memory.
    context = multiprocessing.get_context("spawn")
    beats = context.RawArray("d", _BEAT * len(trials))
    stopped = context.RawValue("b", 0)
    ended: dict[int, Ended] = {}
    with ProcessPoolExecutor(jobs, context, _begin, (beats, stopped)) as pool:
        try:
            numbers = {
                pool.submit(_perform, run, number, trial, keep_rows): number for number, trial in enumerate(trials)
            }
            pending = set(numbers)
            while pending:
                if stop() and not stopped.value:
                    stopped.value = 1
                    pending -= {future for future in pending if future.cancel()}
                done, pending = wait(pending, _POLL_S, FIRST_COMPLETED)
                for future in done:
                    each = _harvest(future)
                    if each is not None:
                        ended[numbers[future]] = each
                for number in range(len(trials)):
                    simulated_s, duration_s, requests = beats[_BEAT * number : _BEAT * (number + 1)]
                    watch(number, Beat(simulated_s, duration_s, int(requests)))
        except BaseException:
            stopped.value = 1
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [ended[number] for number in sorted(ended)]


def _harvest(future: Future[Ended | None]) -> Ended | None:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RunLost("The process of a run ended without a word, as one does that runs out of memory.") from None


class _Shared:
    """What a worker shares with its parent."""

    beats: Any
    stopped: Any


def _begin(beats: Any, stopped: Any) -> None:
    """Begin a worker: the parent alone hears Ctrl-C, and nobody runs on after the parent is gone."""
    _Shared.beats, _Shared.stopped = beats, stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="underlay-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _perform(run: Run, number: int, trial: Trial, keep_rows: bool) -> Ended | None:
    if _Shared.stopped.value:
        return None  # it was handed over too early to be called back

    def tell(number: int, beat: Beat) -> None:
        _Shared.beats[_BEAT * number : _BEAT * (number + 1)] = beat

    def progress(simulated_s: float, duration_s: float, requests: int) -> None:
        tell(number, Beat(simulated_s, duration_s, requests))

    try:
        result = run(trial.variant, trial.seed, progress, lambda: bool(_Shared.stopped.value))
        return _ended(trial, result, tell, number, keep_rows)
    except Exception as error:
        if _travels(error):
            raise
        raise RunLost(f"A run failed: {type(error).__name__}: {error}") from error


def _travels(error: Exception) -> bool:
    """Whether an error can be told to another process; one that cannot would take the whole pool with it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own words
    except Exception:  # noqa: BLE001 -- whatever its class does when it is made anew
        return False
    return True
