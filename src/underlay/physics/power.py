"""How many watts does a group of accelerators draw, and how much slower is it on fewer?

What the accelerators of one replica draw while they decode depends on the batch, and rises to a plateau as the
arithmetic units come to wait less for the weights:

    P(B) = low + rise·B / (B + half)                                     (watts per accelerator)

Fitted to the mean power of 39 groups of accelerator, model, split and precision (ML.ENERGY Leaderboard 3.0, H100
and B200 under vLLM, NVML); ``bench/fidelity/power.py`` fits it again. A straight line over the logarithm of the
batch was tried in its place and is further off, and below the least batch measured (8) it falls where real ones
stay: eight A100 drew 0.44 of their rated power at every batch from 1 to 16 (Splitwise). The runs hold some
prefill, which is therefore in the curve, not on top of it. A group that nobody measured gets a curve of all of
them in shares of the rated power, with a term for the weights that each accelerator reads; taking the most alike
group was tried in its place and is further off.

A step with prompt tokens draws more, up to the rated power: from P(B) it rises straight up to
``PREFILL_FULL_TOKENS`` for each accelerator of the group. That is near what Splitwise recorded on A100 (peak over
rated power for prompts of 256, 512 and 2,048 tokens: 0.81, 1.00, 1.02 on four; 0.66, 0.75, 0.99 on eight) and
assumed for all others.

A slower clock saves more power than it costs time: with the clock divided by s, what is drawn above idle falls by
s to the power of ``CLOCK_EXPONENT``. It is set so that 70 % of the rated power slows a prompt by 1.3, as
Splitwise's model of capped H100 servers says: one point, and a modelled one. Cubes of the clock hold only where
the voltage can follow. Of a step that only decodes a part stays whatever the clock, as memory has a clock of its
own (``DECODE_FIXED_SHARE``).

A cap slows a step only as far as it would draw more: what is below the cap runs as if there were none (in
Splitwise's model the same 70 % slow no token at any batch up to 64). The driver's averaging over some tens of
milliseconds is left out, and a clock is never slower than ``SLOWEST``: what is still over the cap then stays so.

Refused here: clocks, meters, what a watt costs, and everything of a server that is not the accelerator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import inf, log, log2
from typing import Literal, NamedTuple

from underlay.domain.errors import BadRequest
from underlay.physics import catalogue
from underlay.physics.catalogue import WEIGHT_BYTES, Accelerator
from underlay.physics.tables import rows

#: Prompt tokens in a step, for each accelerator of the group, that bring it to its rated power.
PREFILL_FULL_TOKENS = 128
#: An idle accelerator's share of its rated power where nobody published it: between the two that are.
IDLE_SHARE = 0.135
#: What is drawn above idle goes with this power of the clock: 1.3 times as slow at 70 % of the rated power.
CLOCK_EXPONENT = log((1.0 - IDLE_SHARE) / (0.7 - IDLE_SHARE)) / log(1.3)

#: What stays of the power of a step that only decodes, however slow the clock. Over five models of 1 to 32 B on one
#: RTX PRO 6000, a sixteenth of the clock took 42 % less energy and 1 to 6 % more time (arXiv 2501.08219v4); what
#: goes with so slow a clock is next to nothing, so (1 - 0.42) / 1.035 is the rest. On H200 up to 32 % of the energy
#: of decoding were saved with little time lost (arXiv 2605.11999); here that takes a clock 2.3 times slower.
DECODE_FIXED_SHARE = 0.56
#: A clock is never slower than a third: assumed, as nobody publishes the lowest.
SLOWEST = 3.0

Method = Literal["calibrated", "modelled", "assumed"]


class Key(NamedTuple):
    """What a curve is found by; ``accelerators`` is how many the model is split over."""

    accelerator: str
    model: str
    accelerators: int
    precision: str


#: The row that holds for no group in particular, in shares of the rated power.
ANY = Key("any", "any", 1, "any")


class Fit(NamedTuple):
    """A fitted curve, per accelerator, and how far off it is: relative errors without sign, mean and worst.

    ``doubling_w``, of the curve for any group only, is what each doubling of the weights read in a step adds.
    """

    low_w: float
    rise_w: float
    half_sequences: float
    doubling_w: float
    sequences_max: int
    error_mean: float
    error_max: float

    def power_w(self, sequences: float) -> float:
        """The watts of one accelerator; without its limits."""
        return self.low_w + self.rise_w * sequences / (sequences + self.half_sequences)

    def of(self, rated_w: float, size: float) -> Fit:
        """The curve for any group, for one: by rated power and ``doublings``."""
        low_w = (self.low_w + self.doubling_w * size) * rated_w
        return self._replace(low_w=low_w, rise_w=self.rise_w * rated_w, doubling_w=0.0)

    @classmethod
    def parse(cls, row: Mapping[str, str]) -> Fit:
        """One row of the table."""
        return cls(
            float(row["low_w"]),
            float(row["rise_w"]),
            float(row["half_sequences"]),
            float(row["doubling_w"]),
            int(row["sequences_max"]),
            float(row["error_mean"]),
            float(row["error_max"]),
        )


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """The watts of a whole group of ``accelerators``; ``limit_w`` and ``idle_w`` are of the group too.

    ``slowdown`` says how many times slower than it could the clock runs in every step, ``cap_w`` what no step may
    draw above. ``error_mean`` is that of the fit, or for an ``assumed`` curve what such a guess is usually off by;
    ``note`` says what it rests on.
    """

    low_w: float
    rise_w: float
    half_sequences: float
    idle_w: float
    limit_w: float
    accelerators: int
    method: Method
    note: str
    error_mean: float
    sequences_max: int
    slowdown: float = 1.0
    cap_w: float = inf

    def power_w(self, sequences: float, prefill_tokens: float = 0.0) -> float:
        """The watts of steps with so many decoding sequences and prompt tokens; of none at all, idle."""
        if sequences <= 0 and prefill_tokens <= 0:
            return self.idle_w
        fixed_w, watts = self._parts_w(sequences, prefill_tokens)
        if self.slowdown == 1.0 and watts <= self.cap_w:
            return watts
        slowdown = self._slowdown_at(fixed_w, watts)
        return fixed_w + (watts - fixed_w) * power_share(slowdown)

    def slowdown_at(self, sequences: float, prefill_tokens: float = 0.0) -> float:
        """How many times slower the clock runs in such steps, for ``slowdown`` and for the cap."""
        return self._slowdown_at(*self._parts_w(sequences, prefill_tokens))

    def _parts_w(self, sequences: float, prefill_tokens: float) -> tuple[float, float]:
        """What such steps draw whatever the clock, and all that they draw on the quickest."""
        watts = self.low_w + self.rise_w * sequences / (sequences + self.half_sequences)
        watts = min(max(watts, self.idle_w), self.limit_w)
        fixed_w = max(self.idle_w, DECODE_FIXED_SHARE * watts)
        if prefill_tokens > 0:
            full = min(prefill_tokens / (PREFILL_FULL_TOKENS * self.accelerators), 1.0)
            watts += (self.limit_w - watts) * full
            fixed_w += (self.idle_w - fixed_w) * full
        return fixed_w, watts

    def _slowdown_at(self, fixed_w: float, watts: float) -> float:
        if watts <= self.cap_w:
            return self.slowdown
        needed = min(slowdown_of((self.cap_w - fixed_w) / (watts - fixed_w)), SLOWEST)
        return max(self.slowdown, needed)

    def stretch_joules(self, steps: int, took_s: float, sequences: int, prefill_tokens: int) -> float:
        """The energy of so many equal steps that took ``took_s`` together; the rest is of each one of them."""
        return took_s * self.power_w(sequences, prefill_tokens) if steps else 0.0

    def throttled(self, slowdown: float) -> PowerCurve:
        """The same with its clock ``slowdown`` times slower than it could run (1: not throttled)."""
        if slowdown < 1.0:
            raise ValueError(f"A slowdown is at least 1, got {slowdown:g}.")
        return replace(self, slowdown=slowdown)

    def capped(self, cap_w: float) -> PowerCurve:
        """The same where the group may draw no more than that (infinity: no cap)."""
        if cap_w <= 0.0:
            raise ValueError(f"A cap is above 0 W, got {cap_w:g}.")
        return replace(self, cap_w=cap_w)


def power_share(slowdown: float) -> float:
    """What is left of the power above idle when the clock is ``slowdown`` times slower."""
    return float(slowdown**-CLOCK_EXPONENT)


def slowdown_of(share: float) -> float:
    """How much slower the clock must be for this share (above 0) of the power above idle."""
    return float(max(share, 1e-6) ** (-1.0 / CLOCK_EXPONENT)) if share < 1.0 else 1.0


def find(
    accelerator: str, model: str, accelerators: int, precision: str, *, rated_w: float | None = None
) -> PowerCurve:
    """The curve of this group; where nobody measured it the one of all groups, marked ``assumed``.

    ``rated_w`` is the rated power of one accelerator where the catalogue has none, or a lower limit set by its
    owner. Errors: NotFound for an accelerator or model outside the catalogue; BadRequest if no rated power is
    known.
    """
    on = catalogue.accelerator(accelerator)
    catalogue.model(model)
    limit_w = rated_power_w(on, rated_w)
    key = Key(accelerator, model, accelerators, precision)
    fit = fits().get(key)
    if fit is not None:
        return _curve(fit, key, on, limit_w, "calibrated", "fitted to measured runs")
    general = fits()[ANY]
    note = (
        f"no runs of this group; the curve of all measured groups, off by {general.error_mean:.0%} on one left out"
    )
    return _curve(general.of(on.power_w or limit_w, doublings(key)), key, on, limit_w, "assumed", note)


def doublings(key: Key) -> float:
    """The weights that each accelerator of a group reads for one token: doublings of a gigabyte."""
    weights_gb = catalogue.model(key.model).active_parameters * WEIGHT_BYTES[key.precision] / 1e9
    return log2(weights_gb / key.accelerators)


def rated_power_w(on: Accelerator, rated_w: float | None = None) -> float:
    """The rated power of one accelerator, or the lower limit given. Errors: BadRequest if nobody published one."""
    known = [watts for watts in (on.power_w, rated_w) if watts]
    if not known:
        raise BadRequest(f"No rated power of {on.name} is published; say it as rated_w.", param="rated_w")
    return min(known)


def idle_power_w(on: Accelerator, rated_w: float | None = None) -> tuple[float, Method]:
    """The watts of one accelerator that waits with a model loaded, and whether somebody measured them."""
    measured = _idle().get(on.id)
    if measured is not None:
        return measured, "calibrated"
    return IDLE_SHARE * (on.power_w or rated_power_w(on, rated_w)), "assumed"


@cache
def fits() -> Mapping[Key, Fit]:
    """The table."""
    return {
        Key(row["accelerator"], row["model"], int(row["accelerators"]), row["precision"]): Fit.parse(row)
        for row in rows("power_curves.csv")
    }


@cache
def _idle() -> Mapping[str, float]:
    return {row["accelerator"]: float(row["idle_w"]) for row in rows("idle_power.csv")}


def _curve(fit: Fit, key: Key, on: Accelerator, limit_w: float, method: Method, note: str) -> PowerCurve:
    count = key.accelerators
    idle_w, idle_method = idle_power_w(on, limit_w)
    if idle_method == "assumed":
        note += "; idle power is assumed"
    return PowerCurve(
        low_w=fit.low_w * count,
        rise_w=fit.rise_w * count,
        half_sequences=fit.half_sequences,
        idle_w=min(idle_w, limit_w) * count,
        limit_w=limit_w * count,
        accelerators=count,
        method=method,
        note=note,
        error_mean=fit.error_mean,
        sequences_max=fit.sequences_max,
    )
