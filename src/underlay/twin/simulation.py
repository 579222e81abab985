"""A scenario at work: world, platforms and callers in one clock, and what a run of them leaves behind.

Everything is made here and nothing decided: who calls is for ``crowd``, what becomes of it for the desks, what
befalls the world for ``world``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple, Protocol

from underlay.control.events import SettingsChanged
from underlay.domain.policy import DeskSettings

from .assembly import Assembly
from .callers import Callers
from .kernel import copied
from .records import Account, RunResult
from .run_ledger import RunLedger
from .sampling import Sampled, Sampler
from .scenario import Scenario

#: Simulated seconds, of how many, and requests that have ended by then.
Progress = Callable[[float, float, int], None]
Stop = Callable[[], bool]

#: What is being answered when the callers have gone may take so long; what is left then stays open.
_DRAIN_MAX_S = 600.0
#: How often it is asked whether to stop, in steps of the whole.
_SLICES = 400
#: Objects made, of which this many more than were freed make the collector look at the newest, and so on.
_COLLECTED = (100_000, 20, 100)
#: Copying goes as deep as things refer to each other: prompts of one conversation, say, one after the other.
_COPIED_DEPTH = 100_000


def run(
    scenario: Scenario,
    seed: int,
    *,
    progress: Progress | None = None,
    check: bool = False,
    stop: Stop | None = None,
) -> RunResult:
    """Run a scenario once. Equal seeds give equal results, down to the hash.

    ``check`` has every desk verified after everything that happens (some hundred times slower). ``stop`` is asked
    now and then; once it says so, the result is what there is until then, marked partial. Raises
    ``ScenarioMistake``, and ``AssertionError`` if a check fails.
    """
    if scenario.level == "fluid":
        from .fluid import run as run_fluid  # noqa: PLC0415 -- half of it, never both

        return run_fluid(scenario, seed, progress=progress, stop=stop)
    simulation = simulation_of(scenario, seed, check=check)
    simulation.go(progress or nobody_watches, stop or never)
    return simulation.result()


class World(Sampled, Protocol):
    """What can be let happen: everything hangs on its kernel and its callers."""

    callers: Callers

    def check(self) -> None:
        """Verify everything; raises ``AssertionError``."""
        ...

    def accounts(self) -> list[Account]:
        """The totals of the run until now."""
        ...

    def ledger(self) -> RunLedger | None:
        """What each request took until now, if that is asked for."""
        ...

    def places(self) -> list[Account]:
        """The totals of sites and what is in them until now, if these are asked for."""
        ...

    def happenings(self) -> list[tuple[float, str]]:
        """What befell the world until now, in order."""
        ...

    def all_warnings(self) -> list[str]:
        """What to distrust."""
        ...


class Outline(NamedTuple):
    """What is to be simulated: how long, looked at how often, and what was promised (by name, in seconds)."""

    name: str
    duration_s: float
    sample_s: float
    slo: dict[str, float]


def simulation_of(scenario: Scenario, seed: int, *, check: bool = False) -> Simulation:
    """A scenario that has not begun. Raises ``ScenarioMistake``."""
    outline = Outline(scenario.name, scenario.duration, scenario.report.sample, slo_of(scenario))
    return Simulation(Assembly(scenario, seed), outline, seed, check=check)


class Simulation:
    """One run: ``go`` lets it happen, ``result`` says what came of it."""

    def __init__(self, world: World, outline: Outline, seed: int, *, check: bool = False) -> None:
        self.world = world
        self.outline = outline
        self.seed = seed
        self.kernel = world.kernel
        self.sampler = Sampler(world, outline.sample_s, outline.duration_s)
        self.partial = False
        if check:
            self.kernel.check = world.check
        self.sampler.begin()

    def go(self, progress: Progress, stop: Stop) -> None:
        """Run to the end, and on until everybody has been answered."""
        duration_s = self.outline.duration_s
        with _uncollected():
            for until in self._slices(duration_s):
                if until < self.kernel.at:
                    continue
                self.kernel.run(until)
                progress(min(until, duration_s), duration_s, len(self.world.callers.requests))
                if stop():
                    self.partial = until < duration_s
                    break
                if until >= duration_s and not self.world.callers.open_count():
                    break
        self.world.callers.close()
        self.sampler.end()

    def run_to(self, at: float) -> None:
        """Run until that time; ``go`` goes on from there."""
        with _uncollected():
            self.kernel.run(at)

    def change_settings(self, settings: DeskSettings) -> None:
        """From now on every desk goes by these."""
        at = self.kernel.at
        for platform in self.world.platforms.values():
            platform.tell(at, SettingsChanged(at, settings))

    def snapshot(self) -> Simulation:
        """All of it as it is now. Either may run on, and what befalls one does not touch the other."""
        deepest = sys.getrecursionlimit()
        sys.setrecursionlimit(max(deepest, _COPIED_DEPTH))
        try:
            return copied(self)
        finally:
            sys.setrecursionlimit(deepest)

    def _slices(self, duration_s: float) -> Iterator[float]:
        step_s = duration_s / _SLICES
        for number in range(1, _SLICES):
            yield number * step_s
        yield duration_s
        until = duration_s
        while until < duration_s + _DRAIN_MAX_S:
            until += max(1.0, step_s)
            yield until

    def result(self) -> RunResult:
        """What the run leaves behind."""
        world = self.world
        requests = world.callers.requests
        return RunResult(
            scenario=self.outline.name,
            seed=self.seed,
            duration_s=self.outline.duration_s,
            simulated_s=self.kernel.at,
            trace_hash=self._hash(),
            events=self.kernel.events,
            requests=requests,
            series=self.sampler.series,
            accounts=world.accounts(),
            warnings=world.all_warnings(),
            happenings=world.happenings(),
            partial=self.partial,
            slo=dict(self.outline.slo),
            itl_counts=self._itl_counts(),
            ledger=world.ledger(),
            places=world.places(),
        )

    def _itl_counts(self) -> list[int]:
        """How many tokens came how long after the one before, anywhere."""
        replicas = [one for platform in self.world.platforms.values() for one in platform.replicas.values()]
        return [sum(counts) for counts in zip(*(replica.itl_counts for replica in replicas), strict=True)]

    def _hash(self) -> str:
        """Equal for equal runs: over all requests, all samples and whatever befell the world."""
        digest = blake2b(self.world.callers.requests.hash().encode(), digest_size=16)
        digest.update(repr(self.sampler.series.values).encode())
        digest.update(repr(self.world.happenings()).encode())
        return digest.hexdigest()


def slo_of(scenario: Scenario) -> dict[str, float]:
    """The promises that are given, by name, in seconds."""
    targets = {"ttft": scenario.slo.ttft, "tpot": scenario.slo.tpot, "e2e": scenario.slo.e2e}
    return {name: target for name, target in targets.items() if target is not None}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the collector leave alone what stays for the whole run, and look less often at what comes and goes.

    Requests leave nothing behind that refers to itself; at 1,000 replicas it took a tenth of the time to find none.
    """
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def nobody_watches(simulated_s: float, duration_s: float, requests: int) -> None:
    """For whoever runs on without being watched."""


def never() -> bool:
    """For whoever runs on without being stopped."""
    return False
