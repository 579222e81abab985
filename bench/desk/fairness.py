"""What do tenants that ask for their share notice of one that asks for twenty times its own? (I14)"""

from __future__ import annotations

from pathlib import Path

from harness import Figures, percentile
from tests.support.keys import make_key, wait_known

from .house import ENGINES, SLOTS, Asked, Caller, Phase, chat, crowd, house, measured_capacity

TENANTS = 6
#: Of what the engines can do, while everybody asks for no more than a share.
BUSY = 0.8
SECONDS, SETTLE_S = 40.0, 5.0


def fairness(figures: Figures, folder: Path) -> None:
    """The same load twice, only that one tenant asks more the second time."""
    with house(folder, slo_ttft_s=2.0) as here:
        share = BUSY * measured_capacity(figures, here.platform) / TENANTS
        keys = [make_key(here.platform.data_dir, f"tenant {number}") for number in range(TENANTS)]
        wait_known(here.platform, *keys)
        callers = [Caller(key.tenant, key.secret, chat("Go")) for key in keys]
        others = {key.tenant: share for key in keys[1:]}
        greedy = keys[0].tenant
        found = {}
        for name, times in (("at its share", 1), ("at twenty times its share", 20)):
            asked = crowd(here.platform, callers, [Phase(SECONDS, {**others, greedy: times * share})])
            found[name] = [one for one in asked if one.asked_s > SETTLE_S]
            _say(figures, name, found[name], greedy)
    calm, pressed = (percentile(_ttfts(found[name], greedy), 0.95) for name in found)
    how = (
        f"{TENANTS} tenants on {ENGINES * SLOTS} slots, all at {BUSY:.0%} of what they can do; random arrivals, "
        f"the same both times; {SECONDS - SETTLE_S:g} s each"
    )
    figures.add("the others' p95 TTFT moves by", (pressed / calm - 1) * 100, "%", at_most=10, how=how)


def _ttfts(asked: list[Asked], greedy: str) -> list[float]:
    return [one.ttft_s for one in asked if one.who != greedy]


def _say(figures: Figures, name: str, asked: list[Asked], greedy: str) -> None:
    ttfts = _ttfts(asked, greedy)
    refused = sum(one.status != 200 for one in asked if one.who != greedy)
    how = f"{len(ttfts)} requests, {refused} of them refused"
    figures.add(f"the others' p95 TTFT, one {name}", percentile(ttfts, 0.95) * 1e3, "ms", how=how)
    own = [one for one in asked if one.who == greedy]
    served = sum(one.whole for one in own)
    figures.add(f"  its own requests answered, {name}", served, "requests", how=f"of {len(own)}")
