"""Journals with joules for tests: engines that log their steps, attributed as the live ledger does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.twin.journals import BLOCK_TOKENS, CONTEXT_TOKENS, SLOTS, STARTED_S, TIMES, Recorder

from underlay.control import journal
from underlay.control.events import EnergySettled
from underlay.control.journal import Entry
from underlay.domain.figures import Figure
from underlay.ledger.attribution import Window, attribute
from underlay.ledger.step_energy import Coefficients, StepModel, sums_of
from underlay.ledger.steps import ANY_COSTS, Step
from underlay.twin.crowd.journal.calls import calls_in
from underlay.twin.engine import ModelledEngine, SlotRules
from underlay.twin.modelled import Modelled

TRUTH = Coefficients(0.8, 40.0, 0.02, 1.5)


class Logged(Modelled):
    """A replica that logs its steps, as the ledger wants them."""

    def __init__(self, name: str, number: int, opening_tokens: int) -> None:
        rules = SlotRules(SLOTS, CONTEXT_TOKENS, 512, BLOCK_TOKENS, opening_tokens=opening_tokens)
        self.log: list[Step] = []
        super().__init__(name, "m", rules, TIMES, None, number)

    def begin(self) -> None:
        super().begin()
        self.engine = ModelledEngine(self._rules, TIMES, self._log)

    def _log(self, begun_at: float, steps: int, first_s: float, growth_s: float, *_: Any) -> float:
        engine = self.engine
        works = []
        for request in engine._running.values():
            ticket = request.exchange.ticket
            if request.joined_step >= 0:
                context = request.computed + engine.batch.step - request.joined_step
                works.append(ANY_COSTS.decode(ticket, context, steps))
            elif request in engine._chunks:
                works.append(ANY_COSTS.prefill(ticket, request.chunk, request.computed - request.chunk))
        took_s = steps * (first_s + 0.5 * growth_s * (steps - 1))
        self.log.append(Step(begun_at, begun_at + took_s, tuple(works), steps=steps))
        return 0.0


def settle(log: list[Step]) -> dict[str, float]:
    """The joules of each request, attributed as live: by the truth, in one window."""
    model = StepModel(TRUTH, "calibrated", 0.0)
    metered = Figure(TRUTH.joules(sums_of(log)), "J", "measured", "a test", "", 0.0)
    end_s = max(step.end_s for step in log)
    booked = attribute(Window(0.0, end_s + 1.0, metered, Figure(0.0, "W", "measured", "", "", 0.0)), log, model)
    return {entry.request: entry.joules for entry in booked.entries if entry.request}


def logging_recorder(opening_tokens: int = 0) -> Recorder:
    """A platform whose two replicas log their steps."""
    made = Recorder(replicas=0)
    for number in range(2):
        made.platform.add(Logged(f"m/{number}", number, opening_tokens))
        made.kernel.call(STARTED_S - 30.0, made._start, f"m/{number}")
    return made


def written(recorder: Recorder, path: Path, host_j: float = 0.0, pue: float = 1.0) -> Path:
    """The journal of it, with what each request took; ``host_j`` for each token, beside the devices."""
    recorder.write(path)
    header, entries = journal.decode(path.read_bytes())
    frames = [entry for entry, _ in entries]
    last_s = frames[-1].event.at
    left = {call.arrived.ticket: call for call in calls_in(path)}
    joules = {}
    for replica in recorder.platform.replicas.values():
        joules |= settle(replica.log)
    for ticket, took_j in sorted(joules.items(), key=lambda took: left[took[0]].ended_at):
        call = left[ticket]
        tokens = call.usage.prompt_tokens - call.usage.cached_tokens + call.usage.completion_tokens
        accounts = {"abandoned_streams" if call.outcome == "left" else "busy": took_j}
        accounts |= {"host": host_j * tokens} if host_j else {}
        took_all_j = sum(accounts.values())
        accounts |= {"overhead": (pue - 1.0) * took_all_j} if pue > 1.0 else {}
        event = EnergySettled(last_s, ticket, call.key_id, "team", "m", took_all_j, accounts, call.usage)
        frames.append(Entry(event, []))
    path.write_bytes(b"".join(map(journal.encode, [header, *frames])))
    return path
