"""Work that can wait, at one region's desk: who is put off until when, and when it joins those who wait.

Decided here is only whose turn has come: ``deferral`` says when that is, from the hours of electricity that the
driver told and from the room there is. Who is put off stands aside from the line, so nobody waits behind it; once
it joins the line it is served after everybody more urgent, and it is refused only when it could no longer be
answered in time, or where the platform is full and somebody more urgent comes. It refuses to know
other regions: whoever sends a request here has chosen among them.
"""

from __future__ import annotations

from typing import Protocol

from underlay.domain.policy import DeskSettings

from . import deferral
from .agenda import Agenda
from .deferral import Outlook, Place, Plan
from .effects import Effects
from .events import GridSeen
from .model_desk import ModelDesk
from .regions import BUSY_SHARE
from .ticket import Ticket

#: Between when it must begin and when it is given up; also where no margin is set.
_MARGIN_MIN_S = 1.0


class Office(Protocol):
    """What this desk needs of the one that it is part of."""

    tickets: dict[str, Ticket]
    agenda: Agenda

    def serve(self, model: ModelDesk, at: float) -> Effects:
        """Let in whoever can go now."""
        ...


class DeferralDesk:
    """The hours of electricity, and those who wait for better ones."""

    def __init__(self, office: Office, settings: DeskSettings) -> None:
        self._office = office
        self._outlook = Outlook()
        self._settings = settings
        self._hours: tuple[float, ...] = ()

    def adopt(self, settings: DeskSettings, at: float) -> Effects:
        """Decide by these settings from now on, also about those who wait already."""
        self._settings = settings
        self._hours = self._outlook.hours(settings.deferral, settings.carbon_usd_per_tonne)
        return self._reconsider(at)

    def grid_seen(self, event: GridSeen) -> Effects:
        """Take in what electricity emits and costs here, hour by hour."""
        self._outlook = Outlook(event.carbon_g_kwh, event.usd_kwh)
        return self.adopt(self._settings, event.at)

    def consider(self, ticket: Ticket, at: float) -> str:
        """Put a newcomer off if it can wait for something: sets ``not_before``, and says why; else nothing."""
        defer_s = ticket.arrived.defer_s
        if defer_s is None or not self._hours:
            return ""
        margin_s = max(_MARGIN_MIN_S, self._settings.deferral_margin_s)
        latest_at = deferral.latest_start(at + defer_s, ticket.model.service.mean_s, margin_s)
        if latest_at <= at:
            return ""
        ticket.latest_at, ticket.given_up_at = latest_at, latest_at + margin_s
        plan = self._plan(ticket, at)
        if plan is None or plan.start_at <= at:
            return ""
        ticket.not_before = plan.start_at
        return plan.why

    def spare(self, ticket: Ticket) -> Ticket | None:
        """The last of those put off that are less urgent than this one: they may not fill the platform."""
        if not self._hours:
            return None
        others = reversed(self._office.tickets.values())
        return next((each for each in others if each.put_off and each.band > ticket.band), None)

    def turn(self, ticket: Ticket, at: float) -> Effects:
        """The time has come to look at one that was put off: it joins the line, or is put off again."""
        model = ticket.model
        if ticket.name not in model.aside:  # it was given up at the same time
            return []
        plan = self._plan(ticket, at)
        if plan is not None and plan.start_at > at:
            ticket.not_before = plan.start_at
            self._office.agenda.add(plan.start_at, "retry", ticket)
            return []
        model.join(ticket, at)
        return self._office.serve(model, at)

    def _plan(self, ticket: Ticket, at: float) -> Plan | None:
        model = ticket.model
        pool = model.pool
        room = 0 if model.line.size or not pool.open else int(BUSY_SHARE * pool.slots) - pool.load
        return deferral.plan([Place("", self._hours, room)], self._settings.deferral, at, ticket.latest_at)

    def _reconsider(self, at: float) -> Effects:
        effects: Effects = []
        for ticket in [each for each in self._office.tickets.values() if each.put_off]:
            effects += self.turn(ticket, at)
        return effects
