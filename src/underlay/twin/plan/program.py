"""Integer programs for HiGHS, column by column and row by row, and what it says of them.

One thread and a fixed seed, so equal programs have equal solutions; only a limit of time, where it is reached,
depends on the machine, and the answer then says so. Refused here: what any column means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

import highspy
import numpy as np

Status = Literal["optimal", "limit", "infeasible"]

#: Below this relative gap a solution counts as the best.
GAP = 1e-4
_WAIT_S = 0.1


class Solution(NamedTuple):
    """Values of all columns. ``bound`` is what no solution can be below, ``gap`` how far this one is from it."""

    status: Status
    values: tuple[float, ...]
    objective: float
    bound: float
    gap: float


_NONE: Solution = Solution("infeasible", (), inf, inf, inf)


@dataclass(slots=True)
class Program:
    """Columns and rows; what is made least is the sum of the columns' costs."""

    _costs: list[float] = field(default_factory=list)
    _lows: list[float] = field(default_factory=list)
    _highs: list[float] = field(default_factory=list)
    _whole: list[bool] = field(default_factory=list)
    _row_lows: list[float] = field(default_factory=list)
    _row_highs: list[float] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _indices: list[int] = field(default_factory=list)
    _factors: list[float] = field(default_factory=list)

    def column(self, cost: float = 0.0, *, low: float = 0.0, high: float = inf, whole: bool = False) -> int:
        """A variable; returns its number."""
        self._costs.append(cost)
        self._lows.append(low)
        self._highs.append(high)
        self._whole.append(whole)
        return len(self._costs) - 1

    def row(self, terms: Iterable[tuple[int, float]], *, low: float = -inf, high: float = inf) -> None:
        """The sum of some columns times factors lies between two numbers."""
        self._starts.append(len(self._indices))
        for column, factor in terms:
            self._indices.append(column)
            self._factors.append(factor)
        self._row_lows.append(low)
        self._row_highs.append(high)

    def cost(self, costs: Sequence[float]) -> None:
        """Make least something else."""
        self._costs = list(costs)

    def fix(self, column: int, value: float) -> None:
        """Let a column have this value only, and be no whole number any more."""
        self._lows[column] = self._highs[column] = value
        self._whole[column] = False

    @property
    def costs(self) -> tuple[float, ...]:
        """What each column costs."""
        return tuple(self._costs)

    def solve(self, time_limit_s: float = 20.0, *, gap: float = GAP) -> Solution:
        """The best solution, or the best that was found in time."""
        solver = _Quiet()  # type: ignore[no-untyped-call]
        for name, value in {
            "threads": 1,
            "random_seed": 0,
            "time_limit": time_limit_s,
            "mip_rel_gap": gap,
            "mip_feasibility_tolerance": 1e-7,
        }.items():
            solver.setOptionValue(name, value)
        solver.passModel(self._model())
        _run(solver)
        return self._read(solver, gap)

    def _model(self) -> highspy.HighsLp:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self._costs), len(self._row_lows)
        lp.col_cost_ = np.array(self._costs)
        lp.col_lower_, lp.col_upper_ = _bounds(self._lows), _bounds(self._highs)
        lp.row_lower_, lp.row_upper_ = _bounds(self._row_lows), _bounds(self._row_highs)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.array([*self._starts, len(self._indices)], dtype=np.int32)
        lp.a_matrix_.index_ = np.array(self._indices, dtype=np.int32)
        lp.a_matrix_.value_ = np.array(self._factors, dtype=np.float64)
        if any(self._whole):
            kinds = highspy.HighsVarType
            lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in self._whole]
        return lp

    def _read(self, solver: highspy.Highs, wanted: float) -> Solution:
        status, info = solver.getModelStatus(), solver.getInfo()
        if info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
            return _NONE._replace(status="limit") if _out_of_time(status) else _NONE
        raw = [float(value) for value in solver.getSolution().col_value]
        values = tuple(round(value) if whole else value for value, whole in zip(raw, self._whole, strict=True))
        objective = float(info.objective_function_value)
        if not any(self._whole):
            return Solution("optimal", values, objective, objective, 0.0)
        bound = float(info.mip_dual_bound)
        gap = abs(objective - bound) / max(abs(objective), 1e-12)
        return Solution(
            "limit" if gap > wanted and _out_of_time(status) else "optimal", values, objective, bound, gap
        )


class _Quiet(highspy.Highs):
    """Says nothing on stdout, where results go: what sets its callbacks would print its name first."""

    def enableCallbacks(self) -> None:  # noqa: N802 -- as it is called there
        """Fall silent, then do as asked."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def _bounds(values: Sequence[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array([highspy.kHighsInf if v == inf else -highspy.kHighsInf if v == -inf else v for v in values])


def _out_of_time(status: highspy.HighsModelStatus) -> bool:
    return status in (highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kInterrupt)


def _run(solver: highspy.Highs) -> None:
    """Solve beside this thread, so that Ctrl-C is heard; it ends the search and goes on to whoever called."""
    solver.HandleUserInterrupt = True
    solver.startSolve()
    try:
        while not solver.wait(_WAIT_S)[0]:
            pass
    except BaseException:
        solver.cancelSolve()  # type: ignore[no-untyped-call]
        solver.wait()
        raise
