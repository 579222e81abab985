"""The settings file, the environment and the flags, read strictly and put together.

Every finding says where it is, down to line, column and a caret, and all of them come at once; how the file is read
so is ``documents``' business, what wins over what is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from underlay.documents import shapes
from underlay.documents.draft import Draft
from underlay.documents.findings import DocumentError, Source, Steps, dotted, nearest
from underlay.live import accounts, grid_hours, locate, site_names
from underlay.live.settings import Settings

PREFIX = "UNDERLAY_"
SEPARATOR = "__"
#: Variables that mean something else than a setting.
NOT_SETTINGS = frozenset({"UNDERLAY_CONFIG", "UNDERLAY_KEY", "UNDERLAY_URL", "UNDERLAY_HOME"})


class SettingsError(DocumentError):
    """The settings cannot be used; every reason at once."""


class Loaded(NamedTuple):
    """Settings, where each leaf came from, what looked odd without being wrong, and the file that was read.

    An origin is ``flag``, ``env UNDERLAY_PUBLIC__PORT``, ``underlay.yaml:2:3`` or ``default``.
    """

    settings: Settings
    origins: dict[str, str]
    warnings: list[str]
    path: Path | None


def load(path: str | Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Loaded:
    """Read settings: ``overrides`` (flags, by dotted name; ``None`` is no override) win over the environment,
    over the file (``path``, or where ``locate.settings_path`` finds one), over the defaults.

    Raises ``SettingsError``.
    """  # noqa: D205
    draft = _Draft()
    file = locate.settings_path(path, environ)
    if file is not None:
        draft.read_file(file)
    draft.read_environment(environ)
    draft.read_flags(overrides)
    settings = draft.settle()
    return Loaded(settings, dict(_origins(settings, draft.sources)), draft.warnings, file)


def schema() -> dict[str, Any]:
    """The JSON schema of the settings file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
        "title": "Underlay settings",
    }


class _Draft(Draft[Settings]):
    """Settings while they are being put together: of file, environment and flags."""

    def __init__(self) -> None:
        super().__init__(Settings, "settings")
        self.warnings: list[str] = []

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
                continue
            steps = _steps(variable.removeprefix(PREFIX).lower().split(SEPARATOR))
            if not shapes.kinds(Settings, steps):
                self.warnings.append(f"{variable}: no such setting{_hint(variable, _variables())}")
                continue
            text = environ[variable]
            self.put_text(steps, text, Source(f"env {variable}", text, width=max(1, len(text))))

    def read_flags(self, overrides: Mapping[str, Any]) -> None:
        for setting, value in overrides.items():
            if value is not None:
                steps = _steps(setting.split("."))
                self.put(steps, _plain(value, steps), Source("flag"))

    def settle(self) -> Settings:
        """The settings, or every finding."""
        settings = self.validated()
        if settings is not None:
            mistaken = (
                *accounts.mistakes(settings),
                *site_names.mistakes(settings.site),
                *grid_hours.mistakes(settings),
            )
            self.findings += [self.finding(mistake) for mistake in mistaken]
        if settings is None or self.findings:
            raise SettingsError(self.findings)
        # Paths that were written are absolute by now; the default one is not.
        return settings.model_copy(update={"data_dir": settings.data_dir.expanduser()})


def _plain(value: Any, steps: Steps) -> Any:
    """A flag's value as JSON can carry it."""
    if isinstance(value, Path) or shapes.is_path(Settings, steps):
        return str(Path(value).expanduser().absolute())
    if isinstance(value, Decimal):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _variables() -> list[str]:
    return [variable(dotted(leaf)) for leaf in shapes.leaves(Settings)]


def variable(setting: str) -> str:
    """The environment variable of a setting: ``public.port`` is ``UNDERLAY_PUBLIC__PORT``."""
    return PREFIX + setting.upper().replace(".", SEPARATOR)


def _origins(settings: Settings, sources: Mapping[Steps, Source]) -> Iterator[tuple[str, str]]:
    for steps in _written(settings):
        origin = "default"
        for length in range(len(steps), 0, -1):
            if steps[:length] in sources:
                # A section's place is not its leaves' origin: a leaf that it leaves out is a default.
                written = length == len(steps)
                origin = sources[steps[:length]].where if written else _from_whole(sources, steps[:length])
                break
        yield dotted(steps), origin


def _from_whole(sources: Mapping[Steps, Source], steps: Steps) -> str:
    """The origin of a leaf below a value that was set as a whole, by a variable or a flag."""
    source = sources[steps]
    return source.where if source.where == "flag" or source.where.startswith("env ") else "default"


def _written(value: Any, steps: Steps = ()) -> Iterator[Steps]:
    if isinstance(value, pydantic.BaseModel):
        for key in type(value).model_fields:
            yield from _written(getattr(value, key), (*steps, key))
    elif isinstance(value, tuple) and value and isinstance(value[0], pydantic.BaseModel):
        for index, item in enumerate(value):
            yield from _written(item, (*steps, index))
    else:
        yield steps


def _steps(parts: list[str]) -> Steps:
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _hint(word: str, known: list[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""
