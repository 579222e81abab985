"""Are the names in the section ``site`` those of places and parts that something was published for?"""

from __future__ import annotations

from collections.abc import Iterator

from underlay.documents.findings import Mistake, unknown
from underlay.live.settings import SiteSettings


def mistakes(settings: SiteSettings) -> Iterator[Mistake]:
    """What is wrong with them; the tables are looked up only where a name was written."""
    region, accelerator = settings.region, settings.accelerator
    if region is not None:
        from underlay.physics import grid  # noqa: PLC0415  # most settings name none, and it loads numpy

        if region not in grid.regions():
            yield Mistake(("site", "region"), unknown("region", region, grid.regions()))
        if settings.country is not None:
            yield Mistake(("site", "country"), "the region says which country it is in; name one of the two")
    if accelerator is not None:
        from underlay.physics import catalogue  # noqa: PLC0415  # as above

        if accelerator not in catalogue.accelerators():
            yield Mistake(("site", "accelerator"), unknown("accelerator", accelerator, catalogue.accelerators()))
