"""The accounts of energy of a gateway in this process, over simulated meters that are read every few milliseconds."""

from __future__ import annotations

import asyncio
import time

from tests.live.wire import DIALECTS, http
from tests.support.inside import Line
from tests.support.meters import SimulatedMeter

from underlay.live.energy import start as energy_start
from underlay.live.energy.accounting import Hearers
from underlay.live.meters.ladder import Ladder, Rung
from underlay.live.meters.sampler import Sampler
from underlay.live.settings import MeterSettings, ModelSettings, Settings, SiteSettings

CHAT = DIALECTS[0]
WINDOW_S = 0.05


def metered(watts, place="host/accelerator-0"):
    """A meter of something that always draws as much."""
    return SimulatedMeter(lambda now: watts * now, time.monotonic, peak_w=watts, refresh_s=0.001, place=place)


class Accounts:
    """The accounts of a gateway in this process, over a simulated meter that is read every few milliseconds."""

    def __init__(self, place, monkeypatch, *, meters=None, site=None, watts=100.0) -> None:
        monkeypatch.setattr("underlay.live.energy.start.WINDOW_S", WINDOW_S)
        self.place = place
        self.site = site or SiteSettings()
        self.meters = meters or (metered(watts),)
        self.meter = self.meters[-1]
        self.ladder = Ladder((Rung("simulated", tuple(self.meters), ""),))
        self.sampler = Sampler(0.005)
        self.settled = {}
        self.journeys = {}
        self.booked = []

    async def __aenter__(self):
        self.sampler.start(self.ladder.meters)
        async with asyncio.timeout(5):
            while not self.sampler.totals()[0].reads:  # noqa: ASYNC110  # a thread tells
                await asyncio.sleep(0.002)
        settings = Settings(models=(ModelSettings(name="m"),), meters=MeterSettings(every_ms=50), site=self.site)
        driver = self.place.driver
        hearers = Hearers(self._settle, lambda booked, journeys: self.booked.append((booked, journeys)))
        self.energy = energy_start.start(self.ladder, self.sampler, driver, settings, hearers)
        driver.on_left, driver.on_warms, driver.on_warmed = (
            self.energy.left, self.energy.warms, self.energy.warmed,
        )  # fmt: skip
        driver._on_journey = self._over
        return self

    async def __aexit__(self, *_):
        self.sampler.stop()

    def _over(self, journey, _replica):
        self.journeys[journey.id] = journey
        self.energy.over(journey)

    def _settle(self, journey):
        self.settled[journey.id] = journey

    async def go_on(self, until, limit_s=10.0):
        """Look and close, as the task does, until it is so."""
        over_s = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < over_s
            self.energy.look()
            await self.energy.close_due()
            await asyncio.sleep(0.01)

    def ask(self, text, **more):
        return Line(self.place, **more).send(
            http(CHAT.path(True), CHAT.body(text), key=self.place.secret, head="Connection: close\r\n")
        )

    def metered_j(self, end_s=None):
        """What the meters counted in all windows that were closed, asked in one go."""
        begin_s = self.energy._begin_s
        end_s = end_s or begin_s + self.energy._closed * self.energy.window_s
        return sum(window.consumed.joules for window in self.sampler.windows(begin_s, end_s))

    def booked_j(self):
        return sum(self.energy.totals().values()) + self.energy.open_joules
