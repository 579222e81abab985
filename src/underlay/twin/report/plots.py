"""The plots of a report: which of them there are depends on what was run and what is known of it.

A plot that would be empty is left out.
"""

from __future__ import annotations

from underlay.twin.experiment import Experiment
from underlay.twin.summary import Summary

from .plot import Plot
from .plots_of_energy import energy
from .plots_of_load import load_and_latency, pareto, points
from .plots_over_time import OVER_TIME, latency_over_time, over_time, served_over_time


def plots_of(experiment: Experiment) -> list[Plot]:
    """All plots that this experiment can fill."""
    shown = _shown(experiment)
    if not shown:
        return []
    first = shown[0]
    alone = len(experiment.summaries) == 1
    found = [
        *([load_and_latency(first)] if alone else [points(experiment), pareto(experiment)]),
        *(latency_over_time(shown, name) for name in ("ttft", "tpot")),
        served_over_time(shown),
        *(over_time(first, what) for what in OVER_TIME),
        energy(first),
    ]
    return [plot for plot in found if plot is not None]


def _shown(experiment: Experiment) -> list[Summary]:
    """One run of each variant, with the same seed where there is one: what is drawn over time."""
    runs = [experiment.counted(variant) for variant in experiment.summaries]
    return [each[0] for each in runs if each]
