"""What is the desk told of electricity, and is it enough for what it is to put work off for?"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.control.events import GridSeen
from underlay.documents.findings import Mistake
from underlay.live.settings import Settings

#: What must be known for what work is put off for.
_NEEDED = {
    "none": (),
    "carbon": ("carbon_by_hour",),
    "price": ("usd_by_hour",),
    "both": ("carbon_by_hour", "usd_by_hour"),
}


def seen(settings: Settings, at: float) -> GridSeen | None:
    """The hours of the site, if anything is put off for them."""
    if settings.desk.deferral == "none":
        return None
    return GridSeen(at, settings.site.carbon_by_hour or (), settings.site.usd_by_hour or ())


def mistakes(settings: Settings) -> Iterator[Mistake]:
    """What is missing: without its hours nothing would ever be put off, and nobody would know why."""
    for name in _NEEDED[settings.desk.deferral]:
        if getattr(settings.site, name) is None:
            message = f"needs site.{name}: 24 values, one for each hour of the day, UTC"
            yield Mistake(("desk", "deferral"), message)
