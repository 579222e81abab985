"""Cancel a coroutine at its first suspension, then at its second, and so on; and see what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from pathlib import Path
from typing import Any, NamedTuple

_END_S = 10.0


class _Counted:
    """Awaits a coroutine, and has its task cancelled while it is suspended for the k-th time, for each k given."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: Collection[int]) -> None:
        self.coroutine = coroutine
        self.at = at
        self.suspensions = 0
        self.finished = False

    async def run(self) -> None:
        self.task = asyncio.current_task()
        await self
        self.finished = True

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited = self.coroutine.send(value) if error is None else self.coroutine.throw(error)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions in self.at:
                asyncio.get_running_loop().call_soon(self.task.cancel)
            value = error = None
            try:
                value = yield waited
            except BaseException as raised:  # noqa: BLE001  # it is the coroutine's to take
                error = raised


async def cancelled_at(coroutine: Coroutine[Any, Any, Any], *at: int, least: int = 0, rest_s: float = 0.2) -> bool:
    """Run it, cancelled at those suspensions; whether it had fewer of them.

    It must end soon once it is cancelled. One that comes to rest before, after ``least`` suspensions, is cancelled
    after ``rest_s``; until then it is slow, not at rest, as a child that starts on a busy machine is.
    """
    counted = _Counted(coroutine, at)
    task = asyncio.create_task(counted.run(), name="the one to be cancelled")
    done, _ = await asyncio.wait((task,), timeout=rest_s)
    until = time.monotonic() + _END_S
    while not done and counted.suspensions < min(at[0], least) and time.monotonic() < until:
        done, _ = await asyncio.wait((task,), timeout=0.01)
    rested = not done and counted.suspensions < at[0]
    if rested:
        counted.at = ()
        task.cancel()
    done, _ = await asyncio.wait((task,), timeout=_END_S)
    if not done:
        task.cancel()
        raise AssertionError(f"cancelled at {at}, it went on for {_END_S:g} s; {counted.suspensions} suspensions")
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
    return rested or counted.finished


class Belongings(NamedTuple):
    """What a process has: tasks, open files (sockets and pipes are files), children."""

    tasks: frozenset[asyncio.Task[Any]]
    files: tuple[str, ...]
    children: frozenset[int]


def belongings() -> Belongings:
    """What this process has now, but for the task that asks."""
    tasks = frozenset(asyncio.all_tasks()) - {asyncio.current_task()}
    return Belongings(tasks, tuple(sorted(_files())), frozenset(_children()))  # type: ignore[arg-type]


def _files() -> list[str]:
    """Kinds of open files, with a number where there are several."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = path.readlink()
        except OSError:  # the one by which we look
            continue
        found.append(str(target).partition(":")[0])
    return found


def _children() -> list[int]:
    mine, found = os.getpid(), []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == mine:
            found.append(int(path.parent.name))
    return found


async def left_nothing(before: Belongings, limit_s: float = 3.0) -> None:
    """Wait until there is no more than there was."""
    until = time.monotonic() + limit_s
    while True:
        now = belongings()
        more = _more(before, now)
        if not more:
            return
        assert time.monotonic() < until, f"left behind: {more}"
        await asyncio.sleep(0.005)


def _more(before: Belongings, now: Belongings) -> list[str]:
    files = list(now.files)
    for name in before.files:
        if name in files:
            files.remove(name)
    tasks = [repr(task) for task in now.tasks - before.tasks]
    return [*tasks, *files, *(f"child {pid}" for pid in now.children - before.children)]


Case = Callable[[], tuple[Coroutine[Any, Any, Any], Callable[[], Awaitable[None]]]]


async def cancel_everywhere(case: Case, *, least: int = 0, limit: int = 60, twice: bool = False) -> int:
    """Cancel a fresh coroutine of ``case`` at each suspension until it finishes, or ``limit`` were tried.

    ``case`` returns it and what its owner does in the end. With ``twice`` it is cancelled again one suspension
    later, while it cleans up. Returns how many suspensions there were; fewer than ``least`` is a failure.
    """
    for number in range(1, limit + 1):
        before = belongings()
        coroutine, close = case()
        finished = await cancelled_at(coroutine, *((number, number + 1) if twice else (number,)), least=least)
        await close()
        try:
            await left_nothing(before)
        except AssertionError as left:
            raise AssertionError(f"cancelled at suspension {number}: {left}") from left
        if finished:
            assert number - 1 >= least, f"only {number - 1} suspensions, not {least}"
            return number - 1
    return limit
