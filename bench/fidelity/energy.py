"""How far off are the ledger's joules of a step, at batches that its step model has not seen?

`python bench/fidelity/energy.py RUNS.csv` takes the runs that `power.py` takes, which name no licence and are not
kept here, with the columns of that and j_per_output_token, avg_output_tokens. The joules of a step are those per
output token times the mean batch (each running sequence gets one token in a step), so what prompts took is in them.

In each group of accelerators, model, precision, split and task every other batch by size, and the greatest, is
learnt from, as if each run were so many windows of a meter; the batches between are forecast. In `two points` only
the outermost are learnt from. The prior is one for all: rated watts times what a roofline takes, as the shipped
power curves were fitted to these very runs.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "bench")]

from fidelity import power as runs_of_power  # noqa: E402
from harness import percentile  # noqa: E402

from underlay.ledger.priors import fitted  # noqa: E402
from underlay.ledger.step_energy import Prior, StepEnergy, Sums  # noqa: E402
from underlay.ledger.steps import TokenCosts, token_costs  # noqa: E402
from underlay.physics import catalogue, power, roofline  # noqa: E402
from underlay.physics.catalogue import Parallelism  # noqa: E402

#: A group must have so many batches to hold some out.
BATCHES_MIN = 4
#: A prior is only worth something with the whole range in it.
BATCHES = (1, 8, 64, 512)


class Group(NamedTuple):
    """One configuration."""

    accelerator: str
    model: str
    precision: str
    accelerators: int
    parallelism: str
    task: str


class Run(NamedTuple):
    """A run at one batch: what its mean step was, and took."""

    sums: Sums
    step_j: float


def read(path: Path) -> dict[Group, list[Run]]:
    """The runs of models in our catalogue, each group's by batch."""
    found: dict[Group, list[Run]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = runs_of_power.model(row["model"].split("/")[-1])
            if name is None:
                continue
            batch = float(row["avg_batch"])
            precision = runs_of_power.PRECISIONS.get(row["weight_precision"], row["weight_precision"])
            split = f"tp{row['tp']} ep{row['ep']} dp{row['dp']}"
            accelerator = runs_of_power.ACCELERATORS[row["gpu"]]
            group = Group(accelerator, name, precision, int(row["num_gpus"]), split, row["task"])
            costs = token_costs(catalogue.model(name))
            # Prompts are not told: contexts are taken as half of the answer, which errs on the short side.
            kv_gb = batch * costs.kv_read_bytes(float(row["avg_output_tokens"]) / 2) * 1e-9
            step_j = float(row["j_per_output_token"]) * batch
            found[group].append(Run(Sums(float(row["dp"]), 0.0, batch, kv_gb), step_j))
    return {group: sorted(runs) for group, runs in sorted(found.items()) if len(runs) >= BATCHES_MIN}


def prior(group: Group) -> Prior:
    """Rated watts times the roofline's step: no run is in it."""
    on, of = catalogue.accelerator(group.accelerator), catalogue.model(group.model)
    costs: TokenCosts = token_costs(of)
    times = roofline.prior(on, of, Parallelism(group.accelerators), group.precision)
    watts = (on.power_w or 0.0) * group.accelerators
    samples = [
        (
            Sums(1.0, 0.0, batch, batch * costs.kv_read_bytes(context) * 1e-9),
            watts * times.decode_step_s(batch, batch * context),
        )
        for batch in BATCHES
        for context in (256, 1024)
    ]
    error = roofline.error(Parallelism(group.accelerators))[0] + power.fits()[power.ANY].error_mean
    return fitted(samples, "assumed", error=error)


def errors(
    groups: Mapping[Group, Sequence[Run]], *, windows: int, two_points: bool = False
) -> dict[Group, list[float]]:
    """Relative errors, without sign, at the batches that were held out, with each of the others seen so often."""
    found = {}
    for group, runs in groups.items():
        seen = {0, len(runs) - 1} | (set() if two_points else {*range(0, len(runs), 2)})
        model = StepEnergy(prior(group))
        for place in sorted(seen) * windows:
            model.learn(runs[place].sums, runs[place].step_j)
        of = model.known.coefficients
        held_out = [run for place, run in enumerate(runs) if place not in seen]
        found[group] = [abs(of.joules(run.sums) / run.step_j - 1.0) for run in held_out]
    return found


def main() -> int:
    """Print the errors; the exit status is 6 if a median between batches is above 10 %."""
    groups = read(Path(sys.argv[1]))
    missed = False
    for name, two_points in (("between", False), ("two points", True)):
        for windows in (1, 50):
            by_group = errors(groups, windows=windows, two_points=two_points)
            every = [error for those in by_group.values() for error in those]
            worst = max(by_group, key=lambda group: statistics.mean(by_group[group] or [0.0]))
            median, tail = statistics.median(every), percentile(every, 0.9)
            missed |= not two_points and median > 0.1
            print(
                f"{name}, {windows} windows a batch: {len(every)} runs held out of {len(groups)} groups, median "
                f"{median:.1%}, p90 {tail:.1%}; worst group {statistics.mean(by_group[worst]):.0%} "
                f"({' '.join(map(str, worst))})"
            )
    return 6 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
