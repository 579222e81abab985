"""How far are the steps that the twin believes in from those of real machines, and the prior from the profiles?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from fidelity import refit
from fidelity import runs as measured
from harness import Figures

from underlay.physics import catalogue, fitting, profiles, roofline
from underlay.physics.step_time import StepCoefficients

#: PCIe accelerators split over several: the all-reduce tables of the source are not believable (600 ms a step).
SUSPECT = {"l40s", "rtx-pro-6000-server"}
BATCHES = [(batch, context) for batch in (1, 8, 64, 256) for context in (512, 4096)]
PROMPTS = (256, 1024, 4096)


def runs(figures: Figures) -> None:
    """Time per output token of whole vLLM runs.

    Fitted to them: 0.5 ms of host time on Hopper, and on half of two groups' runs two shares (``refit.SCALED``),
    which the other half scores.
    """
    costs = {refit.key(line): line.coefficients() for line in profiles.lines().values() if line.engine == "vllm"}
    errors = measured.scored(costs, refit.fitted_to())
    every = [error for group in errors.values() for error in group]
    figures.add(
        "runs: median error of TPOT", 100 * statistics.median(every), "%", at_most=8.0, how=f"{len(every)} runs"
    )
    figures.add("runs: mean error of TPOT", 100 * statistics.mean(every), "%")
    for name, group in sorted(errors.items()):
        figures.add(
            " ".join(name), 100 * statistics.median(group), "%", at_most=15.0, how=f"median of {len(group)} runs"
        )
    left_out = [run for run in measured.read() if not run.possible]
    how = "; ".join(f"{' '.join(r.name)} {r.prompt_tokens}+{r.output_tokens} x {r.at_once}" for r in left_out)
    figures.add("runs: not possible as they are described", len(left_out), "", how=how)
    with_them = [run.off(costs[run.name]) for run in measured.read()]
    figures.add("runs: median error with all of them", 100 * statistics.median(with_them), "%")


def fits(figures: Figures) -> None:
    """The formula against the timings that it was fitted to."""
    for method in ("calibrated", "modelled"):
        found = [line.fit_error for line in profiles.lines().values() if line.method == method]
        figures.add(f"{method}: decode, mean error", 100 * statistics.mean(e.decode_mean for e in found), "%")
        figures.add(f"{method}: prefill, mean error", 100 * statistics.mean(e.prefill_mean for e in found), "%")
    refitted = refit.encode(refit.fitted()) == refit.SHIPPED.read_bytes()
    figures.add("profiles fitted again equal those shipped", float(refitted), "", at_least=1.0)


def prior(figures: Figures) -> None:
    """The roofline against the profiles, as if there were none."""
    for what, expert in (("", False), (", experts split", True)):
        decode, prefill = prior_errors(expert=expert)
        figures.add(f"prior{what}: decode, mean error", 100 * decode.mean, "%")
        figures.add(f"prior{what}: decode, 95 % below", 100 * decode.p95, "%")
        figures.add(f"prior{what}: prefill, mean error", 100 * prefill.mean, "%")
        figures.add(f"prior{what}: prefill, 95 % below", 100 * prefill.p95, "%")


def prior_errors(*, expert: bool) -> tuple[fitting.Spread, fitting.Spread]:
    """Of decode and of prefill, for models whose experts are split or all others."""
    decode, prefill = [], []
    for said, known in _beside(expert=expert):
        decode += [(said.decode_step_s(b, b * c), known.decode_step_s(b, b * c)) for b, c in BATCHES]
        prefill += [(said.prefill_s(tokens), known.prefill_s(tokens)) for tokens in PROMPTS]
    return fitting.spread(*zip(*decode, strict=True)), fitting.spread(*zip(*prefill, strict=True))


def _beside(*, expert: bool) -> Iterator[tuple[StepCoefficients, StepCoefficients]]:
    for key, line in profiles.lines().items():
        split = catalogue.Parallelism.parse(key.parallelism)
        if (split.expert > 1) == expert and not (key.accelerator in SUSPECT and split.tensor > 1):
            on, of = catalogue.accelerator(key.accelerator), catalogue.model(key.model)
            yield roofline.prior(on, of, split, key.precision), line.coefficients()
