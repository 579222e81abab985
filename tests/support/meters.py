"""Meters for tests: a simulated one, a tree of powercap files, NVIDIA's module, a management controller."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from underlay.live.meters.meter import Boundary, Meter, Quantum, Reading


class Clock:
    """A clock that goes when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def on(self, seconds: float) -> float:
        self.now += seconds
        return self.now


class SimulatedMeter(Meter):
    """A counter that is renewed every 100 ms, with noise, of a device whose true joules a function knows.

    ``joules`` is the true count at a time. The noise is that of the last renewal and does not add up. With ``broken``
    it cannot be read; ``reset`` sets it back to nothing.
    """

    family = "simulated"

    def __init__(
        self,
        joules: Callable[[float], float],
        clock: Callable[[], float],
        *,
        peak_w: float,
        place: str = "host/accelerator-0",
        refresh_s: float = 0.1,
        noise_j: float = 0.0,
        seed: int = 0,
    ) -> None:
        quantum = Quantum(refresh_s, 0.0)
        super().__init__(f"simulated:{place}", Boundary(place, "a simulated device"), "measured", quantum)
        self.peak_w = peak_w + 2.0 * noise_j / refresh_s  # one renewal at either end
        self.noise_j = noise_j
        self.broken = self.closed = self.interrupted = False
        self.reads = 0
        self._joules = joules
        self._clock = clock
        self._chance = random.Random(seed)
        self._began_s = clock()
        self._epoch = 0
        self._lost = 0.0
        self._shown = (-1, 0.0)

    def read(self) -> Reading | None:
        self.reads += 1
        if self.broken:
            self.trouble = "broken"
            return None
        at_s = self._clock()
        renewal = int((at_s - self._began_s) / self.quantum.seconds + 1e-9)
        if renewal != self._shown[0]:
            true = self._joules(self._began_s + renewal * self.quantum.seconds) - self._lost
            # A counter never falls, whatever its noise.
            noisy = true + self._chance.uniform(-self.noise_j, self.noise_j)
            self._shown = (renewal, max(noisy, self._shown[1]))
        joules = self._shown[1]
        return Reading(at_s, joules, joules, joules, self._epoch)

    def reset(self) -> None:
        self._epoch += 1
        self._lost = self._joules(self._clock())
        self._shown = (-1, 0.0)

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


class Powercap:
    """Files as Linux lays them out under /sys/class/powercap."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def zone(self, name: str, called: str, energy_uj: object = 0, range_uj: object = 262_143_328_850) -> Path:
        """``intel-rapl:0`` called ``package-0``; a part of it, ``intel-rapl:0:1``, lies within it and beside it."""
        parent, _, _ = name.rpartition(":")
        folder = (
            self.root / parent / name if parent in {path.name for path in self.root.iterdir()} else self.root / name
        )
        folder.mkdir()
        if folder.parent != self.root:
            (self.root / name).symlink_to(folder)
        (folder / "name").write_text(f"{called}\n")
        (folder / "energy_uj").write_text(f"{energy_uj}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        return folder

    @staticmethod
    def count(zone: Path, energy_uj: object) -> None:
        (zone / "energy_uj").write_text(f"{energy_uj}\n")


class NvmlError(Exception):
    """What the driver raises."""


class Device:
    """One accelerator. ``mj`` of ``None``: it counts no energy; ``lost``: it fell off the bus."""

    def __init__(self, *, mj: int | None = 0, mw: int | None = 100_000, mig: int | None = None) -> None:
        self.mj, self.mw, self.mig = mj, mw, mig
        self.limit_mw: int | None = 700_000
        self.least_mw = 200_000
        self.lost = False


class FakeNvml:
    """The functions of pynvml that are used, over devices that tests change."""

    NVMLError = NvmlError

    def __init__(self, *devices: Device, error: str = "") -> None:
        self.devices = devices
        self.error = error
        self.begun = 0
        self.permits = True

    def nvmlInit(self) -> None:  # noqa: N802
        if self.error:
            raise NvmlError(self.error)
        self.begun += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.begun -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:  # noqa: N802
        return self.devices[index]

    def nvmlDeviceGetUUID(self, handle: Device) -> str | bytes:  # noqa: N802
        return f"GPU-{self.devices.index(handle)}".encode()  # as older versions do

    def nvmlDeviceGetName(self, handle: Device) -> str | bytes:  # noqa: N802
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Device) -> int:  # noqa: N802
        return self._value(handle, handle.mj)

    def nvmlDeviceGetPowerUsage(self, handle: Device) -> int:  # noqa: N802
        return self._value(handle, handle.mw)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Device) -> int:  # noqa: N802
        return self._value(handle, handle.limit_mw)

    def nvmlDeviceGetPowerManagementLimit(self, handle: Device) -> int:  # noqa: N802
        return self._value(handle, handle.limit_mw)

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: Device) -> list[int]:  # noqa: N802
        return [self._value(handle, handle.least_mw), 700_000]

    def nvmlDeviceSetPowerManagementLimit(self, handle: Device, limit: int) -> None:  # noqa: N802
        self._value(handle, handle.limit_mw)
        if not self.permits:
            raise NvmlError("Insufficient Permissions")
        assert handle.least_mw <= limit <= 700_000
        handle.limit_mw = limit

    def nvmlDeviceGetMigMode(self, handle: Device) -> list[int]:  # noqa: N802
        return [self._value(handle, handle.mig), 0]

    @staticmethod
    def _value(handle: Device, value: int | None) -> int:
        if handle.lost:
            raise NvmlError("GPU is lost")
        if value is None:
            raise NvmlError("Not Supported")
        return value


class Controller:
    """A management controller on loopback, in a thread of its own. ``answers`` is by path, changed at will.

    An answer is a JSON value, or bytes sent as they are; ``status``, ``delay_s`` and ``login`` (what it wants, or
    401) hold for all. ``asked`` are the paths in order.
    """

    def __init__(self, answers: dict[str, Any] | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.answers = (
            answers if answers is not None else {"/power": {"PowerControl": [{"PowerConsumedWatts": 300}]}}
        )
        self.status, self.delay_s, self.login = 200, 0.0, ""
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await asyncio.sleep(self.delay_s)
        if self.login and request.headers.get("Authorization") != self.login:
            return web.Response(status=401)
        if request.path not in self.answers:
            return web.Response(status=404)
        said = self.answers[request.path]
        if isinstance(said, bytes):
            return web.Response(body=said, status=self.status, headers=self.headers)
        return web.json_response(said, status=self.status, headers=self.headers)
