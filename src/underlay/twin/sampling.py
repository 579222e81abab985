"""Samples of the world over time: how busy, how many wait, what is drawn."""

from __future__ import annotations

from typing import Protocol

from .kernel import Kernel
from .modelled import Modelled
from .platform import Platform
from .records import Series

#: After everything else at the same time.
_LAST = 10


class Sampled(Protocol):
    """What is looked at."""

    kernel: Kernel
    platforms: dict[str, Platform]

    def sample(self) -> dict[str, float]:
        """What there is to see beside the platforms."""
        ...


class Sampler:
    """Looks at everything each ``every_s`` until ``duration_s``, once ``begin`` was said.

    Names begin with the region's.
    """

    def __init__(self, world: Sampled, every_s: float, duration_s: float) -> None:
        self.series = Series()
        self._world = world
        self._every_s = every_s
        self._duration_s = duration_s
        self._at = 0.0
        self._busy_s: dict[str, float] = {}
        self._replicas = {name: list(platform.replicas.values()) for name, platform in world.platforms.items()}

    def begin(self) -> None:
        """Look from now on."""
        self._world.kernel.call(self._every_s, self._look, None, _LAST)

    def end(self) -> None:
        """Look once more, at the end."""
        at = self._world.kernel.at
        if at > self._at:
            self._take(at)

    def _look(self, at: float, _: None) -> None:
        self._take(at)
        if at + self._every_s <= self._duration_s:
            self._world.kernel.call(at + self._every_s, self._look, None, _LAST)

    def _take(self, at: float) -> None:
        sample: dict[str, float] = {}
        for name, platform in self._world.platforms.items():
            self._of_region(at, name, platform, sample)
        sample.update(self._world.sample())
        self._at = at
        self.series.add(at, sample)

    def _of_region(self, at: float, name: str, platform: Platform, sample: dict[str, float]) -> None:
        replicas = self._replicas[name]
        ready = [replica for replica in replicas if replica.state == "ready"]
        busy_s = sum(replica.busy_s for replica in replicas)
        before_s = self._busy_s.get(name, 0.0)
        self._busy_s[name] = busy_s
        sample[f"{name}.replicas"] = float(len(ready))
        sample[f"{name}.waiting"] = float(platform.desk.waiting() + sum(_queued(replica) for replica in ready))
        sample[f"{name}.running"] = float(sum(replica.engine.running_count for replica in ready))
        sample[f"{name}.utilisation"] = (busy_s - before_s) / (max(1, len(replicas)) * (at - self._at))


def _queued(replica: Modelled) -> int:
    return replica.engine.waiting_count
