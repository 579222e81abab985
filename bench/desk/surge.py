"""What is left of a platform that is asked for ten, and fifty, times what it can do."""

from __future__ import annotations

from pathlib import Path

from harness import Figures, percentile
from tests.support.keys import make_key, wait_known

from .house import TOKENS, Asked, Caller, Phase, chat, crowd, house, measured_capacity

SLO_S = 2.0
#: What each band puts up with, in parts of that: the desk's own defaults.
PATIENCE = {"priority": 1.0, "standard": 1.0, "batch": 10.0}
BEFORE_S, SURGE_S, AFTER_S, FLOOD_S = 15.0, 60.0, 35.0, 40.0
#: What the surge is made of, in parts of the capacity; the first band stays below seven tenths of it.
USUAL = {"priority": 0.3, "standard": 0.3, "batch": 0.2}
TEN = {"priority": 0.6, "standard": 4.4, "batch": 5.0}
FIFTY = {"priority": 0.6, "standard": 19.4, "batch": 30.0}
_SETTLE_S = 3.0


def surge(figures: Figures, folder: Path) -> None:
    """Capacity first; then usual load, ten times the capacity, usual load again, fifty times, usual load."""
    with house(folder, slo_ttft_s=SLO_S) as here:
        platform = here.platform
        keys = {
            band: [make_key(platform.data_dir, f"{band} {number}", band=band) for number in range(3)]
            for band in USUAL
        }
        wait_known(platform, *(key for several in keys.values() for key in several))
        capacity = measured_capacity(figures, platform)
        callers = [Caller(key.tenant, key.secret, chat("Go")) for several in keys.values() for key in several]

        def phase(seconds: float, parts: dict[str, float], *, even: bool = False) -> Phase:
            rates = {
                k.tenant: capacity * parts[band] / len(several) for band, several in keys.items() for k in several
            }
            return Phase(seconds, rates, even)

        usual = [phase(seconds, USUAL, even=True) for seconds in (BEFORE_S, AFTER_S)]
        ten = crowd(platform, callers, [usual[0], phase(SURGE_S, TEN), usual[1]])
        _judge(figures, "10x", ten, SURGE_S, capacity, at_least=95)
        fifty = crowd(platform, callers, [usual[0], phase(FLOOD_S, FIFTY), usual[1]], seed=2)
        _judge(figures, "50x", fifty, FLOOD_S, capacity, at_least=90)


def _judge(
    figures: Figures, name: str, asked: list[Asked], surge_s: float, capacity: float, at_least: float
) -> None:
    start, end = BEFORE_S, BEFORE_S + surge_s
    surged = [one for one in asked if start <= one.asked_s < end]
    tokens = goodput(asked, start + _SETTLE_S, end)
    how = (
        f"tokens of requests with a first token within {SLO_S:g} s (the last band: {SLO_S * PATIENCE['batch']:g}) "
        f"that ended well, against capacity; open loop, "
        f"{len(surged) / surge_s:.0f} requests a second for {surge_s:g} s ({len(surged) / surge_s / capacity:.1f}x)"
    )
    figures.add(f"{name}: goodput", tokens / (capacity * TOKENS) * 100, "%", at_least=at_least, how=how)
    top = [one for one in surged if one.who.startswith("priority")]
    within = sum(good(one) for one in top) / len(top) * 100
    must = {"at_least": 99.5} if name == "10x" else {}
    how = f"{len(top)} requests, {len(top) / surge_s / capacity:.0%} of capacity"
    figures.add(f"{name}: first band within its target", within, "%", how=how, **must)
    refused = [one.answered_s - one.asked_s for one in surged if one.status in (429, 503)]
    how = f"{len(refused)} refused; from the moment it was due, the generator's own lateness included"
    figures.add(f"{name}: refusals p99", percentile(refused, 0.99) * 1e3, "ms", at_most=50, how=how)
    late = percentile([one.sent_s - one.asked_s for one in surged], 0.99) * 1e3
    figures.add(f"{name}: the generator's lateness p99", late, "ms")
    other = sum(not one.whole and one.status not in (429, 503) for one in surged)
    figures.add(f"{name}: neither answered nor refused", other, "requests", at_most=0)
    before = goodput(asked, _SETTLE_S, start)
    back_s = _back_after_s(asked, end, before)
    how = f"until 5 s in a row have 95 % of the goodput before ({before:.0f} tokens/s)"
    figures.add(f"{name}: back after", back_s, "s", at_most=30, how=how)


def good(one: Asked) -> bool:
    """Whether it was worth its tokens."""
    return one.good(SLO_S * PATIENCE[one.who.partition(" ")[0]])


def goodput(asked: list[Asked], start: float, end: float) -> float:
    """Tokens per second of good requests that ended between the two."""
    return sum(one.tokens for one in asked if good(one) and start <= one.ended_s < end) / (end - start)


def _back_after_s(asked: list[Asked], end: float, before: float) -> float:
    """When a window of five seconds begins that is as good as it was before."""
    for half in range(int(2 * (AFTER_S - 5))):
        start = end + half / 2
        if goodput(asked, start, start + 5) >= 0.95 * before:
            return half / 2
    return float("inf")
