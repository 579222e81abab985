"""The fleet of one machine: every replica a child process with its own HTTP port, watched and restarted.

Replicas at given addresses are watched in the same way, but belong to somebody else. Each replica has one task
that lives as long as the fleet (``live.fleet.replica``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from underlay.domain.views import ReplicaRow
from underlay.live.engines import llamacpp_server, template_of
from underlay.live.engines.gguf import has_pooling
from underlay.live.engines.weights import bundled_model
from underlay.live.fleet.child import Child
from underlay.live.fleet.replica import Progress, Reached, Replica, Tell
from underlay.live.fleet.status import ReplicaStatus
from underlay.live.settings import ModelSettings

Command = Callable[[ModelSettings, Path | None, int], Sequence[str]]


def llamacpp_command(model: ModelSettings, path: Path | None, threads: int) -> Sequence[str]:
    """The command line of one llama.cpp child."""
    engine = model.engine
    wanted = {
        "path": str(path),
        "parent_pid": os.getpid(),
        "slots": engine.slots,
        "context_tokens": model.context_tokens,
        "threads": threads,
        "embeddings": engine.embeddings,
        "mean_pooling": engine.embeddings and not (path and has_pooling(path)),
        "fit": engine.path is not None,
        "shared_beginning": template_of(engine) == "transcript",
    }
    # -P: or the script's own directory would be searched for modules first.
    return [sys.executable, "-P", llamacpp_server.__file__, msgspec.json.encode(wanted).decode()]


class ProcessFleet:
    """Replicas of all models. ``on_seen`` hears of one that became ready, ``on_lost`` of one that was and is gone.

    Both are called on the loop. ``command`` makes a child's command line; tests put a scripted engine there.
    """

    def __init__(
        self,
        models: Sequence[ModelSettings],
        data_dir: Path,
        *,
        on_seen: Callable[[ReplicaStatus], None],
        on_lost: Callable[[str, str], None],
        command: Command = llamacpp_command,
    ) -> None:
        self._models = models
        self._data_dir = data_dir
        self._on_seen = on_seen
        self._on_lost = on_lost
        self._command = command
        self._replicas: list[Replica] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, progress: Progress = lambda _: None) -> None:
        """Prepare the weights and set every replica going, first ones first; returns before they are ready.

        Raises ``ValueError`` for addresses that cannot be used and ``WeightsMissing``.
        """
        paths = {model.name: await self._path(model, progress) for model in self._models}
        threads = _threads(self._models)
        rounds: dict[int, list[Replica]] = {}
        for model in self._models:
            for index, replica in enumerate(self._make(model, paths[model.name], threads, progress)):
                rounds.setdefault(index, []).append(replica)
        self._replicas = [replica for _, replicas in sorted(rounds.items()) for replica in replicas]
        previous: Replica | None = None
        for replica in self._replicas:
            # One at a time: side by side on few cores, the first would be ready later.
            turn = previous.settled if previous is not None else None
            self._tasks.append(asyncio.create_task(replica.live(turn), name=f"replica {replica.status.name}"))
            previous = replica

    async def _path(self, model: ModelSettings, progress: Progress) -> Path | None:
        engine = model.engine
        if engine.kind != "llamacpp" or engine.addresses:
            return None
        if engine.path is not None:
            return engine.path
        progress("preparing the bundled model")
        return await asyncio.to_thread(bundled_model, self._data_dir)

    def _make(self, model: ModelSettings, path: Path | None, threads: int, progress: Progress) -> list[Replica]:
        engine = model.engine
        if engine.kind == "openai" and not engine.addresses:
            raise ValueError(f"{model.name}: an engine of kind openai needs addresses")
        tell = Tell(self._on_seen, self._on_lost, progress)
        if engine.addresses:
            return [
                Reached(model, index, tell, _address(model, text)) for index, text in enumerate(engine.addresses)
            ]
        command = self._command(model, path, engine.threads or threads)
        return [Child(model, index, tell, command) for index in range(engine.replicas)]

    async def stop(self) -> None:
        """Stop every replica; when this returns, no child is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for replica in self._replicas:
            await replica.end()
            replica.status.step("stopped")

    def statuses(self) -> list[ReplicaStatus]:
        """Every replica as it is now."""
        return [replica.status for replica in self._replicas]

    def rows(self, loads: Mapping[str, int] | None = None) -> list[ReplicaRow]:
        """Every replica for people, by model and number; ``loads`` is what the desk has given to each."""
        now = time.monotonic()
        statuses = sorted(self.statuses(), key=lambda status: status.name)
        return [_row(status, (loads or {}).get(status.name, 0), now) for status in statuses]

    def status(self, name: str) -> ReplicaStatus:
        """One replica as it is now. Raises ``KeyError`` if there is none such."""
        return self._named(name).status

    def drain(self, name: str) -> ReplicaStatus:
        """Prepare to take a replica out of service; its status says ``draining`` if it may have work left.

        Raises ``KeyError`` if there is no such replica.
        """
        replica = self._named(name)
        replica.drain()
        return replica.status

    def retire(self, name: str) -> None:
        """Take a replica out of service, as nothing runs on it any more: a child ends and stays away."""
        self._named(name).retire()

    def restore(self, name: str) -> ReplicaStatus:
        """Undo a drain; one that is out of service starts again. Raises ``KeyError`` if there is none such."""
        replica = self._named(name)
        replica.restore()
        return replica.status

    def suspect(self, name: str, silent: Callable[[], bool]) -> None:
        """Find out at once whether a replica lives that says nothing while streams are open on it."""
        self._named(name).suspect(silent)

    def _named(self, name: str) -> Replica:
        for replica in self._replicas:
            if replica.status.name == name:
                return replica
        raise KeyError(name)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a replica's process, for drills. Raises ``KeyError`` if it has none."""
        for status in self.statuses():
            if status.name == name and status.pid is not None:
                os.kill(status.pid, number)
                return
        raise KeyError(name)


def _threads(models: Sequence[ModelSettings]) -> int:
    """Threads of one replica: the cores shared out.

    Measured on two cores with two replicas and one stream on each: one thread each made 33 tokens a second per
    stream, two threads each made 8 (threads of llama.cpp wait for each other by spinning).
    """
    owned = sum(m.engine.replicas for m in models if m.engine.kind == "llamacpp" and not m.engine.addresses)
    return max(1, len(os.sched_getaffinity(0)) // max(1, owned))


def _address(model: ModelSettings, text: str) -> tuple[str, int]:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{model.name}: {text!r} is no address of an engine; write http://host:port")
    return parts.hostname, parts.port or 80


def _row(status: ReplicaStatus, load: int, now_s: float) -> ReplicaRow:
    return ReplicaRow(
        name=status.name,
        model=status.model,
        state=status.state,
        engine=status.engine,
        address="{}:{}".format(*status.address) if status.address[1] else "",
        pid=status.pid,
        slots=status.slots,
        load=load,
        restarts=status.restarts,
        served=0,  # who serves knows
        resident_mb=status.resident_mb,
        uptime_s=now_s - status.started_at if status.started_at else 0.0,
        why=status.why,
        gauges=dict(status.gauges),
    )
