"""What a scenario got wrong, and where: the one error of everything that is built from a scenario file."""

from __future__ import annotations

from typing import Any

from underlay.domain.errors import BadRequest


class ScenarioMistake(BadRequest):
    """A setting that cannot be. ``steps`` lead to it from the root of the file, names of keys and places in lists.

    Whoever reads the file turns the steps into file, line and column.
    """

    def __init__(self, steps: tuple[str | int, ...], message: str) -> None:
        super().__init__(message, reason="scenario_mistake", param=".".join(map(str, steps)) or None)
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        """It may come from another process."""
        return type(self), (self.steps, self.message)

    def __str__(self) -> str:
        return f"{self.param}: {self.message}" if self.param else self.message
