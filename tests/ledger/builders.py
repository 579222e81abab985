"""Windows, steps and a simulated meter. Short words for tests."""

from __future__ import annotations

import random
from bisect import bisect_right

from underlay.domain.figures import Figure
from underlay.ledger.attribution import Window
from underlay.ledger.step_energy import Coefficients, StepModel, Sums
from underlay.ledger.steps import Step, TokenCosts, Work

COSTS = TokenCosts(
    token_flop=16e9, pair_flop=524288.0, kv_token_bytes=131072.0, kv_token_bytes_beyond_window=131072.0
)
TRUTH = Coefficients(step_j=3.3, pflop_j=900.0, token_j=0.05, kv_gb_j=0.2)
MODEL = StepModel(TRUTH, "calibrated", 0.05)
IDLE_W = 80.0
#: What a device learns from: nearly always decode steps, now and then a chunk.
TYPICAL = tuple(Sums(1.0, pflop, batch, batch * 0.13) for batch in (1, 8, 64) for pflop in (0.0, 0.005))


def idle(watts: float = IDLE_W, off: float | None = 0.0) -> Figure:
    return Figure(watts, "W", "calibrated", "gpu0", "accelerators", off)


def joules(value: float, off: float | None = 0.0) -> Figure:
    return Figure(value, "J", "measured", "gpu0", "accelerators", off)


def window(
    value: float = 100.0, begin_s: float = 0.0, end_s: float = 1.0, *, off: float = 0.0, watts: float = 80.0
):
    return Window(begin_s, end_s, joules(value, off), idle(watts))


def decode(request: str, context: int = 1000, tokens: int = 1, **more) -> Work:
    return COSTS.decode(request, context, tokens, **more)


def prefill(request: str, tokens: int = 512, cached: int = 0, **more) -> Work:
    return COSTS.prefill(request, tokens, cached, **more)


def step(*works: Work, begin_s: float = 0.0, end_s: float = 1.0, **more) -> Step:
    return Step(begin_s, end_s, works, **more)


def marginal_j(work: Work, of: Coefficients = TRUTH) -> float:
    """What a work truly takes beyond the fixed part of its step."""
    return of.joules(Sums(0.0, work.prefill_flop * 1e-15, work.decode_tokens, work.kv_bytes * 1e-9))


def paid(accounts, request: str) -> float:
    """All that a request pays, wherever it is booked."""
    return sum(entry.joules for entry in accounts.entries if entry.request == request)


class Trace:
    """A device as it truly was: steps of known energy with idle time between, and its joules up to any moment."""

    def __init__(
        self, dice: random.Random, duration_s: float, *, of: Coefficients = TRUTH, wobble: float = 0.0
    ) -> None:
        self.steps: list[Step] = []
        self._times, self._joules = [0.0], [0.0]
        self.paid: dict[str, float] = {}
        at, running = 0.0, {}
        while at < duration_s:
            if dice.random() < 0.05:
                at = self._to(at + dice.uniform(0.01, 0.3), IDLE_W)
            for _ in range(dice.choice((0, 0, 0, 1, 2))):
                running[f"r{len(self.paid) + len(running)}-{dice.random():.6f}"] = dice.randint(1, 60)
            if not running:
                at = self._to(at + 0.01, IDLE_W)
                continue
            works = [
                prefill(r, dice.randint(16, 800)) if dice.random() < 0.1 else decode(r, dice.randint(50, 4000))
                for r in running
            ]
            took_s = dice.uniform(0.02, 0.03) + 0.2 * sum(work.prefill_tokens for work in works) / 4000
            made = Step(at, at + took_s, tuple(works))
            fixed, size = of.step_j / len(works), 1.0 + dice.uniform(-wobble, wobble)
            for work in works:
                self.paid[work.request] = self.paid.get(work.request, 0.0) + (fixed + marginal_j(work, of)) * size
            spent = sum(marginal_j(work, of) for work in works) + of.step_j
            at = self._to(at + took_s, spent * size / took_s)
            self.steps.append(made)
            running = {request: left - 1 for request, left in running.items() if left > 1}
        self.until_s = at

    def _to(self, at: float, watts: float) -> float:
        self._joules.append(self._joules[-1] + watts * (at - self._times[-1]))
        self._times.append(at)
        return at

    def at(self, at: float) -> float:
        """The joules up to then."""
        place = min(bisect_right(self._times, at), len(self._times) - 1)
        before, after = self._times[place - 1], self._times[place]
        share = (min(at, after) - before) / (after - before)
        return self._joules[place - 1] + share * (self._joules[place] - self._joules[place - 1])

    def most_w(self) -> float:
        pairs = zip(self._joules, self._joules[1:], self._times, self._times[1:], strict=False)
        return max((b - a) / (t - s) for a, b, s, t in pairs if t > s)

    def within(self, begin_s: float, end_s: float) -> list[Step]:
        return [step for step in self.steps if step.begin_s < end_s and step.end_s > begin_s]


def metered(
    joules: float, *, meter: str, boundary: str, refresh_s: float, most_w: float, noise_j: float = 0.0
) -> Figure:
    """What a counter of energy moved by in a window.

    ``refresh_s`` is how often the counter is brought up to date (NVML: about 0.1 s) and ``most_w`` the most that
    the device draws: together the quantum by which a reading may be behind. The mean power of the window was tried
    in the place of ``most_w``, and makes a window in which the counter did not move look exact.
    """
    return Figure(joules, "J", "measured", meter, boundary, most_w * refresh_s + noise_j)


class SimulatedMeter:
    """A counter that is brought up to date every ``refresh_s``, and reads a little wrong each time."""

    def __init__(self, trace: Trace, dice: random.Random, *, refresh_s: float = 0.1, noise_j: float = 0.0) -> None:
        self._trace, self._dice = trace, dice
        self._refresh_s, self._noise_j = refresh_s, noise_j
        self._most_w = trace.most_w()
        self._counted = {0: 0.0}

    def reading_j(self, at: float) -> float:
        tick = int(at / self._refresh_s + 1e-9)
        while max(self._counted) < tick:
            now = max(self._counted) + 1
            noisy = self._trace.at(now * self._refresh_s) + self._dice.uniform(-0.5, 0.5) * self._noise_j
            self._counted[now] = max(noisy, self._counted[now - 1])
        return self._counted[tick]

    def windows(self, length_s: float):
        """Windows on end over the whole trace, each with the uncertainty that its meter states."""
        count = int(self._trace.until_s / length_s)
        for number in range(count):
            begin_s, end_s = number * length_s, (number + 1) * length_s
            moved = self.reading_j(end_s) - self.reading_j(begin_s)
            read = metered(
                moved, meter="gpu0", boundary="accelerators", refresh_s=self._refresh_s, most_w=self._most_w,
                noise_j=self._noise_j,
            )  # fmt: skip
            yield Window(begin_s, end_s, read, idle())
