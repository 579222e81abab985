"""What NVIDIA's accelerators may draw: a limit that their driver keeps, set through NVML and always given back.

The driver lets root alone set it, between two bounds of the device (an H100 of 700 W: 200 to 700). Nobody's limit
is raised: what was set when we came is the most, and is set again when we go. It is written into a file first, so
that a run that was killed is made good by the next one. Which engine works on which device is not known: a limit is
for all of them.

Refused here: how tight a limit should be (``control.power_caps``). Not tried on real devices yet.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from underlay.live.meters.nvml import Nvml

log = structlog.get_logger("underlay.power")

FILE = "power-limits.json"
_FIX = "run 'underlay up' as root, or say power_caps.mode: off"
_INSTALL = "pip install 'underlay[nvidia]', or say power_caps.mode: off"


class LimitNvml(Nvml, Protocol):
    """What is used of the module ``pynvml`` beside what meters use; all in milliwatts."""

    def nvmlDeviceGetPowerManagementLimit(self, handle: Any) -> int: ...  # noqa: N802, D102
    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: Any) -> Sequence[int]: ...  # noqa: N802, D102
    def nvmlDeviceSetPowerManagementLimit(self, handle: Any, limit: int) -> None: ...  # noqa: N802, D102


class Device(NamedTuple):
    """One device: the least that may be set, and what was set when we came."""

    uuid: str
    handle: Any
    least_mw: int
    before_mw: int


class Offer(NamedTuple):
    """Limits that may be set, or why there are none and what to do about it."""

    limits: PowerLimits | None
    why: str = ""
    fix: str = ""


class PowerLimits:
    """The limits of all devices here. ``rated_w`` is the least that any of them was allowed before us."""

    def __init__(self, nvml: LimitNvml, devices: Sequence[Device], file: Path) -> None:
        self._nvml = nvml
        self._devices = tuple(devices)
        self._file = file
        self._setting = threading.Lock()
        self._over = False
        self.rated_w = min(device.before_mw for device in devices) / 1e3
        self.least_w = max(device.least_mw for device in devices) / 1e3

    @property
    def count(self) -> int:
        """How many devices there are."""
        return len(self._devices)

    def hold_to(self, watts: float) -> None:
        """Each device draws no more than that, as far as it can be held; infinity: as before us.

        Nothing once it is closed: a plan may still be on its way then, in a thread that nobody waits for.
        Raises ``NVMLError`` where the driver refuses, ``OSError`` where the file cannot be written.
        """
        with self._setting:
            if not self._over:
                self._hold_to(watts)

    def _hold_to(self, watts: float) -> None:
        if not self._file.exists():
            before = {device.uuid: device.before_mw for device in self._devices}
            _write(self._file, before)
        for device in self._devices:
            wanted_mw = min(watts * 1e3, device.before_mw)
            self._nvml.nvmlDeviceSetPowerManagementLimit(device.handle, max(int(wanted_mw), device.least_mw))

    def restore(self) -> None:
        """Set what was set before us. Raises ``NVMLError`` where the driver refuses; the file stays then."""
        if self._file.exists():
            for device in self._devices:
                self._nvml.nvmlDeviceSetPowerManagementLimit(device.handle, device.before_mw)
            self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back what was set, and let the driver go; a limit that cannot be given back is said."""
        with self._setting:
            self._over = True
            try:
                self.restore()
            except (self._nvml.NVMLError, OSError) as error:
                fix = "nvidia-smi --power-limit WATTS sets it by hand; the next 'underlay up' tries again"
                log.error("limits of power stay set", why=str(error), fix=fix)  # noqa: TRY400 -- said in words
            self.let_go()

    def let_go(self) -> None:
        """Let the driver go, and what is set as it is."""
        self._nvml.nvmlShutdown()


def offer(data_dir: Path, nvml: LimitNvml | None = None) -> Offer:
    """The limits of this machine's devices, if this process may set them; what a killed run left is given back.

    To find out, what is set is set once more. ``nvml`` is the module, looked for if it is not given.
    """
    file = data_dir / FILE
    found = _opened(file, _left(file), nvml)
    if found.limits is not None:
        file.unlink(missing_ok=True)
    return found


def _opened(file: Path, left: dict[str, int], nvml: LimitNvml | None) -> Offer:
    """The limits, each at what it was before any run of ours; ``left`` is what a killed run said of that."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return Offer(None, "nvidia-ml-py is not installed, so no limit of power can be set", _INSTALL)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Offer(None, f"no NVIDIA driver here, so no limit of power can be set: {error}", _FIX)
    try:
        devices = _devices(nvml, left)
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        return Offer(None, f"the driver does not let this process set limits of power: {error}", _FIX)
    if not devices:
        nvml.nvmlShutdown()
        return Offer(None, "the driver sees no accelerator, so there is nothing to limit", _FIX)
    return Offer(PowerLimits(nvml, devices, file))


def tried(data_dir: Path, nvml: LimitNvml | None = None) -> Offer:
    """Whether limits can be set here, in words; nothing is changed, nor given back."""
    found = _opened(data_dir / FILE, {}, nvml)
    limits = found.limits
    if limits is None:
        return found
    left = "; those that a killed run left are given back by 'underlay up'" if was_cut_off(data_dir) else ""
    limits.let_go()
    many = "accelerator" if limits.count == 1 else "accelerators"
    return Offer(None, f"{limits.count} {many}, from {limits.least_w:.0f} to {limits.rated_w:.0f} W{left}")


def was_cut_off(data_dir: Path) -> bool:
    """Whether a run was killed that had set limits, and they may still hold."""
    return (data_dir / FILE).exists()


def _devices(nvml: LimitNvml, left: dict[str, int]) -> list[Device]:
    """All devices, each set to what it was allowed before any run of ours."""
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetUUID(handle)
        uuid = name.decode(errors="replace") if isinstance(name, bytes) else name
        before_mw = left.get(uuid) or nvml.nvmlDeviceGetPowerManagementLimit(handle)
        nvml.nvmlDeviceSetPowerManagementLimit(handle, before_mw)
        least_mw, _ = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        found.append(Device(uuid, handle, least_mw, before_mw))
    return found


def _left(file: Path) -> dict[str, int]:
    """What was set before a run that was cut off, by device; nothing if none was."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, OSError) as error:
        log.warning("limits of power that an earlier run left cannot be read", file=str(file), why=str(error))
        return {}


def _write(file: Path, before: dict[str, int]) -> None:
    """All of it or nothing: a killed run must leave no half of it."""
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(before))
    part.replace(file)
