"""The world of a scenario: regions, and in them sites, halls, racks and servers, with power, links and storage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from underlay.documents.sections import Count, Section
from underlay.physics.power_chain import UpsKind
from underlay.twin.scenario.values import Name, NotNegative, Positive, Power, Span
from underlay.twin.world.storage import Source


class ServerType(Section):
    """A kind of server; regions, sites and halls name it in ``server``."""

    name: Name = Field("hgx", description="what halls call it")
    accelerator: str = Field("h100-sxm", description="the accelerator in it, by the catalogue's id")
    accelerators: Count = Field(8, description="how many of them")
    host_power_w: Positive | None = Field(
        None, description="what the rest of it draws; none: modelled of processors, memory, disks, fans, cards"
    )
    usd_per_hour: NotNegative | None = Field(
        None, description="price of an accelerator for an hour; none: the median of published ones"
    )


class HallSection(Section):
    """Racks that share a room: one power feed, one cooling."""

    name: Name = Field("hall", description="what faults and series call it")
    count: Count = Field(1, description="how many equal ones; several are numbered from 1")
    racks: Count = Field(description="how many racks")
    servers_per_rack: Count = Field(4, description="servers in each")
    server: Name | None = Field(None, description="kind of server; none: the site's, or else the first one")
    power_cap: Power | None = Field(None, description="most that its IT may draw; none: what stands in it")
    rack_power_cap: Power | None = Field(None, description="most that one rack may draw; none: what stands in it")


class SiteSection(Section):
    """One place with its own grid connection."""

    name: Name = Field("site", description="what faults and series call it")
    count: Count = Field(1, description="how many equal ones; several are numbered from 1")
    halls: tuple[HallSection, ...] = Field(min_length=1, description="its halls")
    server: Name | None = Field(None, description="kind of server in its halls; none: the first one")
    power_cap: Power | None = Field(None, description="most that it may draw, cooling and losses included")


class RegionSection(Section):
    """Where callers and sites are. ``servers`` is a short form of one site with one hall."""

    name: Name = Field(description="what mappings, faults and series call it")
    like: str | None = Field(
        None,
        description="a provider's region (azure/westeurope) whose position, grid, price, PUE and water are taken;"
        " none: whatever else is not said is not accounted",
    )
    clients: NotNegative | None = Field(
        None, description="its part of the callers, by others'; none: as much as every other one"
    )
    utc_offset_h: Annotated[float, Field(ge=-12, le=14)] | None = Field(
        None, description="its time of day; none: by the longitude of 'like', without daylight saving"
    )
    servers: Count | None = Field(
        None, description="how many servers; neither this nor sites: as many as the replicas need"
    )
    server: Name | None = Field(None, description="kind of server of the short form; none: the first one")
    sites: tuple[SiteSection, ...] = Field((), description="its sites, written out")
    power_cap: Power | None = Field(None, description="most that all its sites may draw together")
    pue: Annotated[float, Field(ge=1)] | None = Field(None, description="instead of that of 'like'")
    carbon_g_per_kwh: NotNegative | None = Field(None, description="instead of that of 'like'")
    market_carbon_g_per_kwh: NotNegative | None = Field(
        None, description="of the electricity that contracts say is bought; none: that view is not told"
    )
    usd_per_kwh: NotNegative | None = Field(None, description="instead of that of 'like'")


class LinksSection(Section):
    """What links carry, one way, in GB per second; and how long the way is."""

    nic_gb_s: Positive = Field(50, description="of a server, for everything but talk between its accelerators")
    disk_gb_s: Positive = Field(52, description="reading a server's own drives")
    uplink_gb_s: Positive = Field(200, description="of a rack")
    fabric_gb_s: Positive = Field(1600, description="between the racks of a site")
    storage_gb_s: Positive = Field(57.5, description="of a site's shared file system")
    object_store_gb_s: Positive = Field(400, description="of a region's object store")
    wan_gb_s: Positive = Field(100, description="out of a region")
    wide_gb_s: Positive = Field(50, description="between two regions")
    round_trips: dict[Name, dict[Name, Span]] = Field(
        default_factory=dict,
        description="between regions, {west: {east: 80 ms}}; none: published ones, else by distance",
    )


class StorageSection(Section):
    """Where weights come from when a replica starts, and how long an engine takes once it has them."""

    source: Source = Field("object-store", description="disk: they are on every server; else: from where they come")
    fetch_gb_s: Positive | None = Field(None, description="best that one server can fetch; none: as published")
    cache_gb: Positive = Field(15_360, description="weights that a server's drives keep")
    initialise: Span | None = Field(
        None, description="time an engine takes after loading; none: by the model's layers"
    )


class FailuresSection(Section):
    """Hardware that fails by itself, at published rates."""

    enabled: bool = Field(False, description="whether hardware fails")
    factor: NotNegative = Field(1.0, description="times the published rates")


_SERVERS = (ServerType(),)
_REGIONS = (RegionSection(name="home"),)


class WorldSection(Section):
    """Everything that stands somewhere."""

    servers: tuple[ServerType, ...] = Field(_SERVERS, min_length=1, description="kinds of servers")
    regions: tuple[RegionSection, ...] = Field(
        _REGIONS, min_length=1, description="regions; the first is the default"
    )
    cooling: Literal["air", "liquid"] = Field("air", description="of the servers")
    ups: UpsKind = Field("best", description="uninterruptible supply: typical, best, eco or none")
    links: LinksSection = LinksSection()
    storage: StorageSection = StorageSection()
    failures: FailuresSection = FailuresSection()
    spare_after: Span | None = Field(
        None, description="when a replica that lost its hardware moves to free accelerators; none: it waits"
    )
    day_of_year: Annotated[int, Field(ge=1, le=366)] = Field(
        172, description="for outdoor temperature, sun and grid; 172 is the northern summer's longest day"
    )
    start_utc_h: Annotated[float, Field(ge=0, lt=24)] = Field(0, description="the time of day when the run begins")
