"""Small worlds that both levels can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from underlay.twin import scenario as scenarios
from underlay.twin.scenario import Scenario

CROWD = """
  - arrivals: {rate_per_s: 40, process: even}
    prompt_tokens: {mean: 300, cv: 0.6, high: 2000}
    output_tokens: {mean: 60, cv: 0.5, high: 400}
"""
WORLD = """
level: fluid
duration: 120 s
world:
  regions: [{name: west, like: azure/westeurope}, {name: east, like: azure/eastus}]
report: {sample: 20 s}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 3}
"""


def world(folder: Path, text: str = "", *, crowds: str = CROWD, models: str = "", **settings: Any) -> Scenario:
    """A world of two regions with three replicas each, and what is said besides."""
    path = folder / "world.yaml"
    more = f"  - {models}\n" if models else ""
    path.write_text(f"{WORLD}{more}crowds:{crowds}{text}", encoding="utf-8")
    return scenarios.read(path, settings or None)
