"""How much work at once does a replica bear, by what its latencies say?

Decided from two measurements of each request: how long its first token took compared with what was expected for
its uncached tokens, and the time between its tokens. Whole durations would say nothing, as answers differ in
length. The limit is one of work (tokens, each output token as two input tokens), not of requests, and follows
Netflix's Gradient2: what is measured now against what has been usual, the worse of the two measurements counting.
As long as nothing degrades there is no limit. A limit is always temporary: usual becomes, in about a minute of
measurements, what is measured, so that a replica that is slower for good gets its full part again, and no state
of this module can hold a platform down by itself. It refuses to know replicas and requests; whoever reports to it
leaves out cancelled ones.
"""

from __future__ import annotations

from math import inf

#: An output token is a step of the whole model for one token; input tokens share theirs (VTC, arXiv 2401.00588).
_OUTPUT_WEIGHT = 2.0
#: A window is judged when it is this old and holds so many samples; an older one with fewer is thrown away.
_WINDOW_S = 1.0
_SAMPLES_MIN = 10
_SAMPLES_MAX = 64
_STALE_S = 10.0
#: Windows that are only learnt from.
_WARM_UP = 5
#: How much a window moves what is usual; more after a bad time, so that the next one is noticed (Gradient2).
_LEARN = 0.02
_LEARN_BETTER = 0.1
#: How many times the usual is still good, the strongest gradient, and how much of it one window applies.
_TOLERANCE = 1.5
_GRADIENT_MIN = 0.5
_SMOOTHING = 0.5
#: Never below this part of the most that was carried, nor below one slot's part of it.
_FLOOR_SHARE = 0.25
#: What a good window gives back, as a part of the most that was carried; how fast that is forgotten.
_GROWTH = 0.1
_FADE = 0.99
#: Without a bad window for so long there is no limit, whatever was or was not measured.
_FORGIVE_S = 60.0


def expected_cost(uncached_tokens: int, completion_tokens: int) -> float:
    """The work of a request, in input tokens."""
    return uncached_tokens + _OUTPUT_WEIGHT * completion_tokens


class Signal:
    """One kind of measurement: its windows, and what is usual for it.

    ``recent`` is the median of the last whole window, ``closed_at`` its time (0: none yet), ``gradient`` its
    judgement: 1 is good, less says how much to shrink. A value may grow in proportion to the work in flight, as
    then as much is done per second as before: a batch that fills up is no degradation. ``steady`` is the median
    without such growth.
    """

    __slots__ = (
        "_began_at",
        "_cost_sum",
        "_samples",
        "_usual_cost",
        "_windows",
        "closed_at",
        "crest",
        "gradient",
        "recent",
        "steady",
        "usual",
    )

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._cost_sum = 0.0
        self._began_at = 0.0
        self._windows = 0
        self._usual_cost = 1.0
        self.crest = 0.0  # most work in flight in this window, or in the last one
        self.closed_at = 0.0
        self.recent = self.steady = 0.0
        self.usual = 0.0
        self.gradient = 1.0

    def add(self, value: float, in_flight_cost: float, at: float) -> bool:
        """Take in a measurement made with so much work in flight; True if it closed a window."""
        samples = self._samples
        if not samples or at - self._began_at > _STALE_S:
            samples.clear()
            self._began_at = at
            self._cost_sum = self.crest = 0.0
        if in_flight_cost > self.crest:  # noqa: PLR1730 - max() takes twice as long, once per request
            self.crest = in_flight_cost
        count = len(samples)
        if count < _SAMPLES_MAX:
            grown = in_flight_cost / self._usual_cost
            samples.append(value / grown if grown > 1.0 and self._windows else value)
            self._cost_sum += in_flight_cost
            count += 1
        if count < _SAMPLES_MIN or at - self._began_at < _WINDOW_S:
            return False
        self._close(at)
        return True

    def _close(self, at: float) -> None:
        samples = self._samples
        samples.sort()
        self.steady = short = samples[len(samples) // 2]
        batch = max(1.0, self._cost_sum / len(samples))
        self.recent = short * max(1.0, batch / self._usual_cost) if self._windows else short
        self.closed_at = at
        worse = short / self.usual if self.usual > 0.0 else 1.0
        self.gradient = 1.0
        if self._windows >= _WARM_UP and worse > _TOLERANCE:
            self.gradient = max(_GRADIENT_MIN, _TOLERANCE / worse)
        self._learn(batch, worse)
        samples.clear()

    def _learn(self, batch: float, worse: float) -> None:
        """Move what is usual; value and work together, so that their relation is never that of two times."""
        self._windows += 1
        weight = _LEARN_BETTER if worse < 0.5 else _LEARN
        if self._windows <= 10:
            weight = 1.0 / self._windows
        self.usual += weight * (self.recent - self.usual)
        self._usual_cost += weight * (batch - self._usual_cost)


class Limit:
    """The most work that one replica may have in flight: ``cost``, infinite while nothing shows a need."""

    __slots__ = ("_bad_at", "_itl", "_peak", "_slots", "_ttft", "cost")

    def __init__(self, slots: int) -> None:
        self.cost = inf
        self._slots = max(1, slots)
        self._ttft = Signal()
        self._itl = Signal()
        self._peak = 0.0  # the most it carried lately
        self._bad_at = 0.0

    @property
    def itl_s(self) -> float:
        """The time between tokens in the last whole window; 0 while there is none."""
        return self._itl.recent

    @property
    def steady_itl_s(self) -> float:
        """The same, as it would have been with no more work in flight than usual."""
        return self._itl.steady

    @property
    def itl_at(self) -> float:
        """When that was measured."""
        return self._itl.closed_at

    @property
    def usual_itl_s(self) -> float:
        """What has been usual for it."""
        return self._itl.usual

    def first_token(self, took_s: float, expected_s: float, in_flight_cost: float, at: float) -> None:
        """Learn how long a first token took, against what was expected for the same tokens."""
        if expected_s > 0.0 and self._ttft.add(took_s / expected_s, in_flight_cost, at):
            self._judge(self._ttft, self._itl, at)
        elif self.cost != inf:
            self._forgive(at)

    def decoded(self, itl_s: float, in_flight_cost: float, at: float) -> None:
        """Learn the mean time between the tokens of a finished attempt."""
        if itl_s > 0.0 and self._itl.add(itl_s, in_flight_cost, at):
            self._judge(self._itl, self._ttft, at)
        elif self.cost != inf:
            self._forgive(at)

    def _forgive(self, at: float) -> None:
        if at - self._bad_at > _FORGIVE_S:
            self.cost = inf

    def _judge(self, signal: Signal, other: Signal, at: float) -> None:
        """Move the limit after a window of one signal; the other's last word counts while it is fresh."""
        gradient, crest = signal.gradient, signal.crest
        if other.gradient < gradient and at - other.closed_at <= _WINDOW_S * 2:
            gradient = other.gradient
        if gradient < 1.0:
            self._peak = max(self._peak, crest)
            self._shrink(gradient, crest, at)
            return
        self._peak = max(self._peak * _FADE, crest)
        if self.cost != inf:
            self._grow(crest, at)

    def _floor(self) -> float:
        return self._peak * max(_FLOOR_SHARE, 1.0 / self._slots)

    def _shrink(self, gradient: float, crest: float, at: float) -> None:
        """Less than is allowed now, or than was in flight if that is less: what is not used says nothing."""
        shrunk = min(self.cost, crest) * (1.0 - _SMOOTHING + _SMOOTHING * gradient)
        self.cost = max(shrunk, self._floor())
        self._bad_at = at

    def _grow(self, crest: float, at: float) -> None:
        """More, if what is allowed was used; less than half of it in flight shows nothing about more."""
        if crest >= self.cost * 0.5:
            self.cost = max(self.cost + self._peak * _GROWTH, self._floor())
        if self.cost >= self._peak:
            self.cost = inf
        else:
            self._forgive(at)
