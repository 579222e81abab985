"""The recorded settings with some of them changed: what somebody would have written instead.

Only what is changed is checked as people's settings are; what was recorded is taken as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from underlay.documents.desk import DeskSection
from underlay.documents.draft import Draft
from underlay.documents.findings import DocumentError, Source
from underlay.domain.policy import Band, DeskSettings

#: How settings are called elsewhere; the desk's own names do as well.
_PREFIXES = ("desk.", "policies.")


def varied(settings: DeskSettings, changes: Iterable[tuple[str, str]]) -> DeskSettings:
    """``settings`` with some of them changed, each given as text, as in a file. Raises ``DocumentError``."""
    given = [(_plain(name), text) for name, text in changes]
    if not given:
        return settings
    draft = Draft(DeskSection, "settings of the desk")
    known = msgspec.json.decode(msgspec.json.encode(settings))  # lists, as documents have them
    touched = {name.split(".")[0] for name, _ in given}
    draft.tree = {name: known[name] for name in touched if name in DeskSection.model_fields}
    for name, text in given:
        steps = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        draft.put_text(steps, text, Source(f"{name}={text}"))
    section = draft.validated()
    if section is None or draft.findings:
        raise DocumentError(draft.findings)
    changed: dict[str, Any] = {name: getattr(section, name) for name in touched}
    if "bands" in changed:
        changed["bands"] = tuple(Band(band.name, band.share, band.patience) for band in section.bands)
    return msgspec.structs.replace(settings, **changed)


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
