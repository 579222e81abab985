"""Puts the accounts of energy together for a platform that runs: its meters, its driver, its models."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from underlay.domain.views import Journey
from underlay.live.driver import Driver
from underlay.live.energy.accounting import EnergyAccounts, window_s
from underlay.live.energy.metered import MeteredHost
from underlay.live.energy.prior import processor_prior
from underlay.live.energy.work import Work, costs_of
from underlay.live.meters.ladder import Ladder, disjoint
from underlay.live.meters.sampler import Sampler
from underlay.live.settings import EngineSettings, Settings


def start(
    ladder: Ladder, sampler: Sampler, driver: Driver, settings: Settings, on_settled: Callable[[Journey], None]
) -> EnergyAccounts | None:
    """The accounts from now on; whoever calls runs them, and tells them who left.

    ``None`` where no model runs within the meters' boundary. Models on one host share its meters and one step
    model, whose prior is that of the first.
    """
    modelled = all(meter.family == "processor" for meter in disjoint(ladder.meters))
    names = [model.name for model in settings.models if _runs_here(model.engine, own=modelled)]
    if not names:
        return None

    def guess(ticket: str) -> int:
        known = driver.desk.tickets.get(ticket)
        return known.prompt_tokens if known is not None else 0

    begin_s = driver.clock()
    return EnergyAccounts(
        MeteredHost(ladder, sampler.windows, processor_prior(costs_of(names[0]))),
        Work(names, guess, begin_s),
        driver.exchanges.values,
        on_settled,
        driver.clock,
        window_s=window_s(ladder, settings.meters.every_ms / 1e3),
        begin_s=begin_s,
    )


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
