"""The energy of a running platform: its meters, whose joules they count, and what accelerators may draw.

Meters are looked for beside the loop, once the platform serves; where there are none no joules are told, which is
not 0 J. What is settled is kept with its journey, and counts against budgets. None of this is worth an answer: what
goes wrong here is logged, and requests go on.

Refused here: whose joules they were (``live.energy``), and how tight a cap should be (``control.power_caps``).
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from underlay.control.events import EnergySettled
from underlay.domain.views import Journey
from underlay.live import power_caps
from underlay.live.driver import Driver
from underlay.live.meters import ladder
from underlay.live.meters.processor import Pids
from underlay.live.meters.sampler import Sampler
from underlay.live.metrics import Metrics
from underlay.live.settings import Settings
from underlay.live.store_writer import StoreWriter
from underlay.live.views import LiveViews

if TYPE_CHECKING:
    from underlay.live.energy.accounting import EnergyAccounts

log = structlog.get_logger("underlay.energy")


class RunningEnergy:
    """All that concerns energy, for a platform that runs ``account`` and ``cap_power`` as tasks.

    ``pids`` tells the processes of the engines that run here; it is called from a meter's thread.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        driver: Driver,
        writer: StoreWriter,
        views: LiveViews,
        metrics: Metrics,
        pids: Pids,
    ) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._driver = driver
        self._writer = writer
        self._views = views
        self._metrics = metrics
        self._pids = pids
        self._sampler = Sampler(settings.meters.every_ms / 1e3)
        self._accounts: EnergyAccounts | None = None
        self._caps: power_caps.PowerCaps | None = None
        metrics.add_meters(self._sampler.totals)

    async def account(self) -> None:
        """Find the meters, and say from then on whose joules they counted."""
        try:
            found = await asyncio.to_thread(ladder.look, self._settings.meters, self._pids)
        except Exception:
            log.exception("meters cannot be looked for", effect="no joules are told")
            return
        self._sampler.start(found.meters)
        log.info("meters", found=[meter.id for meter in found.meters], host=found.host_message)
        if not found.meters:
            effect = "budgets in joules bound nothing"
            log.warning("no energy is told", why="nothing here is metered", effect=effect)
            return
        await self._account_by(found)

    async def _account_by(self, found: ladder.Ladder) -> None:
        # What it takes (numpy) is loaded once there is a meter, beside the loop.
        accounting = await asyncio.to_thread(importlib.import_module, "underlay.live.energy.start")
        driver = self._driver
        hearers = accounting.Hearers(self._settled, self._writer.submit_energy)
        energy = accounting.start(found, self._sampler, driver, self._settings, hearers, self._pids)
        if energy is None:
            log.info("no energy is told", why="the meters see none of the engines")
            return
        self._accounts = self._views.energy = energy
        self._metrics.add_energy(energy)
        driver.on_left, driver.on_warms, driver.on_warmed = energy.left, energy.warms, energy.warmed
        driver.energy_of = energy.so_far
        await energy.run()

    def over(self, journey: Journey) -> None:
        """A request is over."""
        if self._accounts is not None:
            self._accounts.over(journey)
        if self._caps is not None:
            self._caps.over(journey)

    def _settled(self, journey: Journey) -> None:
        """The joules of a request are known: keep its journey with them, and let them count against budgets."""
        self._views.settle(journey)
        if not journey.key_id:
            return
        self._writer.submit_journey(journey)
        energy = journey.energy
        if energy is not None and energy.joules is not None:
            self._driver.submit(
                EnergySettled(
                    at=self._driver.now(),
                    ticket=journey.id,
                    key_id=journey.key_id,
                    tenant=journey.tenant,
                    model=journey.model,
                    joules=energy.joules,
                    accounts=energy.accounts,
                    usage=journey.usage,
                )
            )

    async def cap_power(self) -> None:
        """Hold what accelerators draw as low as the service allows, if that is wanted and can be done."""
        settings, driver = self._settings.power_caps, self._driver
        seen = power_caps.Seen(self._settings.site.name, self._sampler.windows, driver.desk.waiting, driver.clock)
        try:
            caps = await power_caps.begin(self._data_dir, settings, seen)
        except Exception:
            log.exception("no power caps")
            return
        if caps is not None:
            self._caps = caps
            self._metrics.registry.register(caps)
            await caps.run()

    async def finish(self) -> None:
        """Book what was metered up to now: while the engines still run, and the store still takes it."""
        if self._accounts is None:
            return
        try:
            await self._accounts.finish()
        except Exception:
            log.exception("the last joules cannot be accounted for", effect="requests of now stay provisional")

    async def close(self) -> None:
        """Read no meter any more."""
        await asyncio.to_thread(self._sampler.stop)
