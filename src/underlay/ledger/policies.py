"""What does each work in a step weigh, when the busy joules of a window are distributed?

* ``shapley`` (the default) shares the fixed part of a step equally among the requests in it and charges each with
  what it adds. For a cost with one shared part that is the Shapley value, exactly; nothing is sampled.
* ``marginal_only`` shares the fixed part as the rest, so a short context rides nearly free.
* ``time_share`` shares the time of a step equally: who has a long prompt read pays as who gets one token.
* ``token_share`` counts tokens, one read like one decoded: unfair to readers, as a token decoded in a small batch
  has all weights read for it.

Weights only, never joules: whoever weighs them scales them to the meter. Refused here: windows and meters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from underlay.ledger.step_energy import Coefficients
from underlay.ledger.steps import Step

Policy = Literal["shapley", "marginal_only", "time_share", "token_share"]
#: A weight for each work of a step, in its order.
Weigh = Callable[[Step, Coefficients], Sequence[float]]


def heads(step: Step) -> list[float]:
    """Each work's part of what the requests in a step share equally."""
    count = len(step.works)
    if len({work.request for work in step.works}) == count:
        return [1.0 / count] * count
    works = Counter(work.request for work in step.works)
    return [1.0 / (len(works) * works[work.request]) for work in step.works]


def shapley(step: Step, of: Coefficients) -> list[float]:
    """The fixed part equally, the rest to its cause."""
    fixed_j = of.step_j * step.steps
    parts = zip(heads(step), marginal_only(step, of), strict=True)
    return [fixed_j * head + marginal_j for head, marginal_j in parts]


def marginal_only(step: Step, of: Coefficients) -> list[float]:
    """As what each adds; the fixed part goes the same way."""
    flop_j, token_j, byte_j = of.pflop_j * 1e-15, of.token_j, of.kv_gb_j * 1e-9
    return [
        flop_j * work.prefill_flop + token_j * work.decode_tokens + byte_j * work.kv_bytes for work in step.works
    ]


def time_share(step: Step, _of: Coefficients) -> list[float]:
    """The time of the step, equally."""
    return [(step.end_s - step.begin_s) * head for head in heads(step)]


def token_share(step: Step, _of: Coefficients) -> list[float]:
    """Tokens read and decoded."""
    return [float(work.tokens) for work in step.works]


POLICIES: Mapping[Policy, Weigh] = {
    "shapley": shapley,
    "marginal_only": marginal_only,
    "time_share": time_share,
    "token_share": token_share,
}
