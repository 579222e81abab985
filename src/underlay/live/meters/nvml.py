"""NVIDIA's accelerators, metered by their driver (NVML, through the package ``nvidia-ml-py``).

Volta and later count millijoules since the driver was loaded, renewed about every 100 ms. Older ones tell their
power only, which is added up from samples. NVIDIA's manual gives the sensor 5 % of what is drawn for its older
devices and says nothing of the newer; it is taken for all. On A100 and H100 the sensor looks at a quarter of the
time only (arXiv 2312.02741), so that loads which come and go in step with it are seen wrongly: that is not in the
band. A counter is of the whole device, whoever works on it: slices (MIG) have none of their own.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Protocol

from underlay.live.meters.integrator import Integrator
from underlay.live.meters.meter import Boundary, Found, Meter, Quantum, Reading, Tally

#: The sensor's error, as a share of what is drawn.
SENSOR_SHARE = 0.05
REFRESH_S = 0.1
#: What is drawn at most where the device does not tell its limit: assumed.
PEAK_W = 1_000.0
#: Samples further apart than this are not joined.
GAP_S = 2.0

_FIX = "pip install 'underlay[nvidia]'"


class Nvml(Protocol):
    """What is used of the module ``pynvml``."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...  # noqa: N802, D102
    def nvmlShutdown(self) -> None: ...  # noqa: N802, D102
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802, D102
    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes: ...  # noqa: N802, D102
    def nvmlDeviceGetName(self, handle: Any) -> str | bytes: ...  # noqa: N802, D102
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]: ...  # noqa: N802, D102


class NvmlMeter(Meter):
    """One device. ``counts`` says whether it counts energy itself."""

    family = "nvml"
    every_s = REFRESH_S

    def __init__(self, nvml: Nvml, index: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._clock = clock
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.counts = _asked(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle) is not None
        limit_mw = _asked(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        self.peak_w = limit_mw / 1e3 if limit_mw else PEAK_W
        uuid = _text(nvml.nvmlDeviceGetUUID(self._handle))
        boundary = Boundary(f"host/accelerator-{index}", self._words(index))
        super().__init__(f"nvml:{uuid}", boundary, "measured", Quantum(REFRESH_S, 1e-3))
        self._tally = Tally()
        self._last_mj: int | None = None
        self._integrator = Integrator(SENSOR_SHARE, GAP_S)

    def _words(self, index: int) -> str:
        name = _text(self._nvml.nvmlDeviceGetName(self._handle))
        words = f"the whole of accelerator {index} ({name}), whoever works on it"
        mode = _asked(self._nvml, self._nvml.nvmlDeviceGetMigMode, self._handle)
        if mode and mode[0]:
            words += "; it is sliced (MIG), and slices have no meter of their own"
        return words if self.counts else f"{words}; added up from samples of its power"

    def read(self) -> Reading | None:
        """Read the counter, or take a sample of the power where there is none."""
        try:
            reading = self._count() if self.counts else self._sample()
        except self._nvml.NVMLError as error:
            self.trouble = str(error)
            return None
        self.trouble = ""
        return reading

    def _count(self) -> Reading:
        now_mj = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        last_mj, self._last_mj = self._last_mj, now_mj
        if last_mj is not None and now_mj < last_mj:
            self._tally.lose()  # the driver was loaded anew
        elif last_mj is not None:
            joules = (now_mj - last_mj) / 1e3
            self._tally.add(joules, joules * (1.0 - SENSOR_SHARE), joules * (1.0 + SENSOR_SHARE))
        return self._tally.reading(self._clock())

    def _sample(self) -> Reading:
        power_w = self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3
        return self._integrator.take(self._clock(), power_w)


def find(nvml: Nvml | None = None) -> Found:
    """The devices of this machine that can be read; ``nvml`` is the module, looked for if it is not given."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return Found((), "nvidia-ml-py is not installed, so NVIDIA's accelerators are not seen", _FIX)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Found((), f"no NVIDIA driver here: {error}")
    meters, troubles = [], []
    for index in range(_asked(nvml, nvml.nvmlDeviceGetCount) or 0):
        try:
            meter = NvmlMeter(nvml, index)
        except nvml.NVMLError as error:
            troubles.append(f"accelerator {index}: {error}")
            continue
        if meter.read() is None:
            troubles.append(f"accelerator {index}: {meter.trouble}")
        else:
            meters.append(meter)
    if not meters:
        nvml.nvmlShutdown()
        return Found((), "; ".join(troubles) or "the driver sees no accelerator")
    return Found(tuple(meters), "; ".join(troubles))


def _asked(nvml: Nvml, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver answers; ``None`` where it refuses or the device lacks it."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
