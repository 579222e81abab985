"""Scenarios as they are found, read, changed and varied.

A file is read wholly or not at all: every mistake in it, from a misspelt key to a model that is too large for its
accelerator, is found before anything runs, and all of them are told at once with file, line and column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from underlay.documents.draft import Draft
from underlay.documents.findings import DocumentError, Finding, Mistake, Source, Steps, unknown
from underlay.twin.scenario.checks import mistakes
from underlay.twin.scenario.document import Scenario

_SUFFIX = ".yaml"
_VARIANTS_MAX = 10_000


class ScenarioError(DocumentError):
    """A scenario cannot be used; every reason at once."""


class Variant(NamedTuple):
    """One point of a sweep: what reports call it, and the settings that make it."""

    name: str
    settings: dict[str, Any]


def shipped() -> dict[str, Path]:
    """The scenarios that come along, by name."""
    folder = resources.files("underlay.twin") / "data" / "scenarios"
    with resources.as_file(folder) as place:
        return {path.stem: path for path in sorted(Path(place).glob(f"*{_SUFFIX}"))}


def find(name: str | Path) -> Path:
    """The file of a scenario: a path, or the bare name of one that comes along. Raises ``ScenarioError``."""
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    known = shipped()
    if str(name) not in known:
        raise ScenarioError([Finding(str(name), "", f"no such file, and {unknown('scenario', str(name), known)}")])
    return known[str(name)]


def read(name: str | Path, settings: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario at a path or of a name, with some of its settings changed. Raises ``ScenarioError``.

    ``settings`` are as for ``with_settings``.
    """
    path = find(name)
    draft = Draft(Scenario, "a scenario")
    draft.read_file(path)
    if not draft.findings and not draft.tree.get("name"):
        draft.tree["name"] = path.stem
    scenario = _settled(draft)
    return with_settings(scenario, settings) if settings else scenario


def with_settings(scenario: Scenario, settings: Mapping[str, Any]) -> Scenario:
    """A scenario with some of its settings changed, checked as if they had been written so.

    Keys are dotted (``policies.routing``, ``models.0.replicas``); entries of lists may be meant by their ``name``
    (``models.chat.replicas``). Text is read as it would be in the file. Raises ``ScenarioError``.
    """
    return _settled(_changed(_draft_of(scenario), scenario, settings))


def variants(scenario: Scenario) -> list[Variant]:
    """Every combination of the scenario's ``sweep``; the scenario as it is, if it sweeps nothing."""
    return grid(scenario.sweep) if scenario.sweep else [Variant("", {})]


def grid(sweep: Mapping[str, Iterable[Any]]) -> list[Variant]:
    """Every combination of some settings' values, the last one changing quickest."""
    points = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    return [Variant(", ".join(f"{key}={_short(value)}" for key, value in point.items()), point) for point in points]


def schema() -> dict[str, Any]:
    """The JSON schema of scenario files, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scenario.model_json_schema(),
        "title": "Underlay scenario",
    }


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _draft_of(scenario: Scenario) -> Draft[Scenario]:
    """What a scenario was made of; one that was made in code is taken as if it had been written out."""
    draft = scenario._draft  # noqa: SLF001 -- its own module's
    if draft is None:
        draft = Draft(Scenario, "a scenario")
        draft.tree = scenario.model_dump(mode="json", exclude_unset=True)
    return deepcopy(draft)


def _changed(draft: Draft[Scenario], scenario: Scenario, settings: Mapping[str, Any]) -> Draft[Scenario]:
    """``draft``, which ``scenario`` was made of, with some settings changed."""
    whole = scenario.model_dump()
    for setting, value in settings.items():
        steps = _steps(whole, setting)
        source = Source(f"{setting}={_short(value)}")
        if isinstance(value, str):
            draft.put_text(steps, value, source)
        else:
            draft.put(steps, value, source)
    return draft


def _steps(whole: Any, setting: str) -> Steps:
    """The way that a dotted setting means in a scenario with all its defaults, some of which have names too."""
    steps: list[str | int] = []
    place = whole
    for part in setting.split("."):
        step: str | int = int(part) if part.isdigit() else part
        if isinstance(place, list | tuple) and isinstance(step, str):
            names = [item.get("name") if isinstance(item, dict) else None for item in place]
            step = names.index(step) if step in names else step
        steps.append(step)
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            place = None
    return tuple(steps)


def _settled(draft: Draft[Scenario]) -> Scenario:
    """The scenario, or every finding."""
    unreadable = draft.findings and not draft.tree
    scenario = None if unreadable else draft.validated()
    if scenario is not None:
        draft.findings += [draft.finding(mistake) for mistake in mistakes(scenario)]
    if scenario is not None and not draft.findings:
        draft.findings += [draft.finding(mistake) for mistake in _swept_wrong(scenario, draft)]
    if scenario is None or draft.findings:
        raise ScenarioError(draft.findings)
    scenario._draft = draft  # noqa: SLF001 -- its own module's
    return scenario


def _swept_wrong(scenario: Scenario, draft: Draft[Scenario]) -> list[Mistake]:
    """What is wrong with each value of a sweep by itself, told at that value."""
    found: list[Mistake] = []
    count = 1
    for setting, values in scenario.sweep.items():
        count *= len(values)
        for number, value in enumerate(values):
            tried = _changed(deepcopy(draft), scenario, {setting: value})
            tried.tree = {key: part for key, part in tried.tree.items() if key != "sweep"}
            at = ("sweep", setting, number)
            try:
                _settled(tried)
            except ScenarioError as error:
                found += [Mistake(at, _elsewhere(wrong, setting)) for wrong in error.findings[:1]]
    if count > _VARIANTS_MAX:
        found.append(Mistake(("sweep",), f"{count:,} combinations; at most {_VARIANTS_MAX:,}"))
    return found


def _elsewhere(wrong: Finding, setting: str) -> str:
    return wrong.message if wrong.setting == setting else f"{wrong.setting}: {wrong.message}"
