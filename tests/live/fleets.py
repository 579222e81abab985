"""Fleets of scripted engines, what they tell, and whether their children live."""

import asyncio
import contextlib
import sys
from pathlib import Path

from underlay.live.fleet.process import ProcessFleet
from underlay.live.settings import EngineSettings, ModelSettings

SCRIPTED = str(Path(__file__).parents[1] / "support" / "scripted.py")


def scripted_command(model, path, threads):
    return [sys.executable, SCRIPTED, "--slots", str(model.engine.slots)]


def model(tmp_path, **engine):
    engine = {"path": tmp_path / "none.gguf", "template": "transcript", "replicas": 1, "probe_s": 0.1, **engine}
    return ModelSettings(name="m", engine=EngineSettings(**engine))


class Heard:
    """What a fleet told, in order."""

    def __init__(self):
        self.told = []
        self.progress = []

    def seen(self, status):
        self.told.append(("seen", status.name, status.generation, status.address))

    def lost(self, name, cause):
        self.told.append(("lost", name, cause))

    def count(self, kind):
        return sum(told[0] == kind for told in self.told)

    async def until(self, kind, count):
        async with asyncio.timeout(20):
            while self.count(kind) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(settings, tmp_path, command=scripted_command):
    heard = Heard()
    fleet = ProcessFleet((settings,), tmp_path, on_seen=heard.seen, on_lost=heard.lost, command=command)
    try:
        await fleet.start(heard.progress.append)
        yield fleet, heard
    finally:
        await fleet.stop()


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
