"""What does a step of a model on accelerators weigh, when its joules are divided among the requests in it?

The step model of the live ledger, as it is before anything was metered (``ledger.priors``): watts by batch times
step times; or as it was metered, where a profile holds that. The joules themselves come from the power curve and
are divided in full, so an error of the model moves joules between requests and never makes or loses any. Refused
here: what a replica drew.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import astuple

from underlay.domain.figures import Method
from underlay.ledger.priors import prior
from underlay.ledger.step_energy import Coefficients, StepModel
from underlay.ledger.steps import TokenCosts, token_costs
from underlay.physics import catalogue
from underlay.physics.power import PowerCurve
from underlay.physics.profiles import Profile
from underlay.twin.engine.shares import ShareWeights


class Weighing(NamedTuple):
    """How one model is weighed on one kind of accelerator, and how well that is known."""

    weights: ShareWeights
    model: StepModel


def weighing(profile: Profile, power: PowerCurve | None, model: str) -> Weighing | None:
    """The weights of a replica's steps; None where nobody knows what it draws, as there is nothing to divide."""
    if power is None:
        return None
    costs = token_costs(catalogue.model(model))
    if profile.power is not None:  # metered with the step times
        metered = profile.power
        found = StepModel(Coefficients(*astuple(metered.joules)), metered.method, metered.error_mean)
        return Weighing(share_weights(found, costs), found)
    method: Method = "calibrated" if profile.method == "calibrated" else "modelled"
    found = prior(power, profile.coefficients, costs, method).model
    return Weighing(share_weights(found, costs), found)


def share_weights(model: StepModel, costs: TokenCosts) -> ShareWeights:
    """The coefficients of a step model for what an engine counts: tokens, pairs of them, tokens of context."""
    of = model.coefficients
    flop_j, byte_j = of.pflop_j * 1e-15, of.kv_gb_j * 1e-9
    windowed_bytes = costs.kv_token_bytes - costs.kv_token_bytes_beyond_window
    return ShareWeights(
        step_j=of.step_j,
        prompt_token_j=flop_j * costs.token_flop,
        pair_j=flop_j * costs.pair_flop,
        token_j=of.token_j,
        windowed_token_j=byte_j * windowed_bytes,
        context_token_j=byte_j * costs.kv_token_bytes_beyond_window,
        window_tokens=costs.window_tokens,
    )
