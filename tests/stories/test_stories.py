"""Transcripts of the desk that a person can read. ``REWRITE_STORIES=1`` rewrites them; review that as a diff.

A line with ``>`` tells the desk something, the indented lines beneath are what it decides. Lines with ``#`` are
for readers. ``wait`` lets time pass and rings the alarms that the desk asked for, as a driver does.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from tests.control.builders import GEMMA, digest_of, key

from underlay.control.desk import assemble
from underlay.control.events import (
    Arrived,
    AttemptFailed,
    ClientGone,
    Finished,
    FirstToken,
    KeyChanged,
    Progress,
    ReplicaLost,
    ReplicaSeen,
    Tick,
)
from underlay.domain.answer import Usage
from underlay.domain.keys import Limits
from underlay.domain.money import usd
from underlay.domain.policy import DeskSettings

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("*.txt"))
REWRITE = os.environ.get("REWRITE_STORIES") == "1"


class Teller:
    """Tells a desk a story line by line; ``tell`` returns what it answers, as sentences."""

    def __init__(self) -> None:
        self.at = 0.0
        self.alarm: float | None = None
        self.attempts: dict[str, int] = {}
        self.generations: dict[str, int] = {}
        self.desk = assemble(DeskSettings(models=(GEMMA,)))

    def tell(self, line: str) -> list[str]:
        command, *words = shlex.split(line)
        names = [word for word in words if "=" not in word]
        numbers = {name: float(value) for name, _, value in (w.partition("=") for w in words if "=" in w)}
        numbers = {name: int(value) if value.is_integer() else value for name, value in numbers.items()}
        return getattr(self, command)(*names, **numbers) or ["nothing to do"]

    def _handle(self, event) -> list[str]:
        effects = self.desk.handle(event)
        self.desk.check()
        return [getattr(self, f"_{type(effect).__name__.lower()}")(effect) for effect in effects]

    # What can be told.

    def settings(self, **more):
        self.desk = assemble(DeskSettings(models=(GEMMA,), **more))
        return ["a new desk"]

    def key(self, name, **limits):
        return self._handle(KeyChanged(self.at, key(name, limits=Limits(**limits))))

    def revoke(self, name):
        return self._handle(KeyChanged(self.at, key(name, revoked_s=self.at)))

    def replica(self, name, slots=2):
        self.generations[name] = self.generations.get(name, -1) + 1
        return self._handle(ReplicaSeen(self.at, name, GEMMA.name, slots, self.generations[name]))

    def lose(self, name, cause):
        return self._handle(ReplicaLost(self.at, name, cause))

    def ask(self, ticket, *how, key="ann", max_tokens=None, **more):
        (who,) = [word.removeprefix("key:") for word in how if word.startswith("key:")] or [key]
        asked = {"streaming": "streaming" in how, "resumable": "constrained" not in how}
        return self._handle(
            Arrived(
                self.at, ticket, (digest_of(who),), GEMMA.name, "chat", 40, max_tokens=max_tokens, **asked, **more
            )
        )

    def first_token(self, ticket, prompt=10, cached=0):
        return self._handle(FirstToken(self.at, ticket, self.attempts[ticket], prompt, cached))

    def progress(self, ticket, tokens):
        return self._handle(Progress(self.at, ticket, tokens))

    def finish(self, ticket, prompt=10, cached=0, completion=20):
        usage = Usage(prompt, cached, completion)
        return self._handle(Finished(self.at, ticket, self.attempts[ticket], usage))

    def fail(self, ticket, failure, delivered=0):
        return self._handle(AttemptFailed(self.at, ticket, self.attempts[ticket], failure, delivered))

    def leave(self, ticket, prompt=10, cached=0, completion=0):
        return self._handle(ClientGone(self.at, ticket, Usage(prompt, cached, completion)))

    def wait(self, seconds):
        until, said = self.at + float(seconds.removesuffix("s")), []
        while self.alarm is not None and self.alarm <= until:
            self.at, self.alarm = self.alarm, None
            said += [f"at {self.at:g} s the alarm rings", *self._handle(Tick(self.at))]
        self.at = until
        return [*said, f"it is {self.at:g} s"]

    def books(self):
        said = [f"{r.name} is {r.state}, {r.load} of {r.slots} slots in use" for r in self.desk.replicas.values()]
        said += [f"{name} is {ticket.state}" for name, ticket in self.desk.tickets.items()]
        return said

    # What it decides.

    def _admitted(self, effect):
        return f"admit {effect.ticket}: {effect.why}"

    def _dispatch(self, effect):
        self.attempts[effect.ticket] = effect.attempt
        how = "to go on" if effect.resume else "from the start"
        return f"dispatch {effect.ticket} to {effect.replica}, attempt {effect.attempt}, {how}: {effect.why}"

    def _hold(self, effect):
        return f"hold {effect.ticket} at place {effect.place}, until {effect.until:g} s: {effect.why}"

    def _refuse(self, effect):
        again = "" if effect.retry_after_s is None else f" (again in {effect.retry_after_s:g} s)"
        return f"refuse {effect.ticket} as {effect.reason}: {effect.message}{again}"

    def _cancel(self, effect):
        return f"cancel {effect.ticket} on {effect.replica}, attempt {effect.attempt}"

    def _cut(self, effect):
        return f"cut {effect.ticket} as {effect.reason}: {effect.message}"

    def _charge(self, effect):
        used = effect.usage
        tokens = f"{used.prompt_tokens} prompt tokens ({used.cached_tokens} cached), {used.completion_tokens} made"
        return f"charge {effect.tenant} ${usd(effect.cost_pico_usd)} for {effect.ticket}: {tokens}"

    def _close(self, effect):
        error = f"; {effect.reason}: {effect.message}" if effect.reason else ""
        return f"close {effect.ticket} as {effect.outcome}: {effect.why}{error}"

    def _eject(self, effect):
        return f"leave {effect.replica} alone until {effect.until:g} s: {effect.why}"

    def _wakeat(self, effect):
        self.alarm = effect.at
        return f"wake at {effect.at:g} s"


def retold(text: str) -> str:
    """The story with the answers that the desk gives today."""
    teller, lines = Teller(), []
    for line in text.splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {said}" for said in teller.tell(line[1:]))]
        elif not line.startswith("  "):
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_desk_tells_it_the_same_way(path):
    told = path.read_text(encoding="utf-8")
    again = retold(told)
    if REWRITE:
        path.write_text(again, encoding="utf-8")
    else:
        assert told == again, "REWRITE_STORIES=1 rewrites the stories; then review the diff"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_begins_with_a_word_to_its_reader_and_ends_with_empty_books(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    books = lines[len(lines) - lines[::-1].index("> books") :]
    assert all(
        " is ready, 0 of " in line or " is lost, 0 of " in line or " suspect, 0 of " in line for line in books
    )


def test_there_are_stories_and_not_too_many_to_read():
    assert 8 <= len(STORIES) <= 24
