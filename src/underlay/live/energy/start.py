"""Puts the accounts of energy together for a platform that runs: its meters, its driver, its models, its site."""

from __future__ import annotations

from ipaddress import ip_address
from math import ceil
from urllib.parse import urlsplit

from underlay.ledger.steps import costs_of
from underlay.live.driver import Driver
from underlay.live.energy.accounting import EnergyAccounts, Hearers
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.prior import first_prior, profile_path
from underlay.live.energy.site import Site
from underlay.live.energy.work import Work
from underlay.live.meters.ladder import ACCELERATOR, Ladder, disjoint
from underlay.live.meters.processor import Pids
from underlay.live.meters.sampler import Sampler
from underlay.live.meters.share import EnginesShare
from underlay.live.settings import EngineSettings, Settings

#: A window is the least multiple of the meters' pause that is as long as this.
WINDOW_S = 1.0


def start(
    ladder: Ladder, sampler: Sampler, driver: Driver, settings: Settings, hearers: Hearers, pids: Pids = tuple
) -> EnergyAccounts | None:
    """The accounts from now on; whoever calls runs them, and tells them who left. ``pids`` are the engines'.

    ``None`` where no model runs within the meters' boundary. Models on one host share its meters and one step
    model, whose prior is that of the first.
    """
    modelled = all(meter.family == "processor" for meter in disjoint(ladder.meters))
    names = [model.name for model in settings.models if _runs_here(model.engine, own=modelled)]
    if not names:
        return None

    begin_s = driver.clock()
    site = Site(settings.site)
    share = EnginesShare(pids) if _host_is_shared(ladder) else None
    meters = (meter.id for meter in ladder.meters)
    prior = first_prior(costs_of(names[0]), profile_path(settings.data_dir, names[0]), meters)
    return EnergyAccounts(
        MeteredHost(
            ladder, sampler.windows, prior, pue=site.pue, engines_share=share, sharing=settings.meters.sharing
        ),
        Work(names, begin_s),
        site,
        driver.exchanges.values,
        hearers,
        driver.clock,
        window_s=window_s(ladder, settings.meters.every_ms / 1e3),
        begin_s=begin_s,
        unix_s=driver.now() - driver.clock(),
    )


def window_s(ladder: Ladder, every_s: float) -> float:
    """How long windows are: a whole multiple of the slowest pause among the meters that close them."""
    pause_s = max((max(every_s, meter.every_s) for meter in ladder.meters), default=every_s)
    return pause_s * ceil(WINDOW_S / pause_s)


def _host_is_shared(ladder: Ladder) -> bool:
    """Whether what counts beside accelerators counts for whoever uses the processors."""
    accelerators = any(meter.boundary.place.startswith(ACCELERATOR) for meter in ladder.meters)
    return accelerators and any(meter.family == "rapl" for meter in ladder.meters)


def _runs_here(engine: EngineSettings, *, own: bool) -> bool:
    """Whether the meters see this engine; with ``own`` they see only what we started, else all of this machine.

    One that is reached by address is taken to be here only where the address can be nowhere else.
    """
    if not engine.addresses:
        return True
    return not own and all(_is_loopback(urlsplit(address).hostname or "") for address in engine.addresses)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
