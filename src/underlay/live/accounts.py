"""The accounts of the settings."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents import accounts as named
from underlay.documents.findings import Mistake, unknown
from underlay.domain.policy import Account
from underlay.live.settings import Settings


def accounts(settings: Settings) -> tuple[Account, ...]:
    """All accounts, for ``DeskSettings``."""
    return named.accounts(settings.accounts)


def mistakes(settings: Settings) -> Iterator[Mistake]:
    """What is wrong between settings that are each valid."""
    models = [model.name for model in settings.models]
    for steps, message in named.mistakes(settings.accounts, models, _bands(settings)):
        yield Mistake(("accounts", *steps), message)


def unknown_band(band: str, settings: Settings) -> str:
    """What is wrong with the name of a band; empty if nothing is."""
    bands = _bands(settings)
    return "" if band in bands else unknown("band", band, bands)


def _bands(settings: Settings) -> list[str]:
    return [band.name for band in settings.desk.bands]
