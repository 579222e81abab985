"""The power of the whole host, as its management controller tells it over IPMI (DCMI's power reading).

Asked by the program ``ipmitool`` (``dcmi power reading``), a process for each reading: this host's own controller
through the kernel's driver, or the one at the address that the settings name, over IPMI 2.0 (``lanplus``) and as a
mere USER, since whoever only reads needs to be no more. The password stays in its file, which ``ipmitool`` reads
itself: command lines can be read by every user of a machine.

Believed is one whole line in the words of ``ipmitool`` (``lib/ipmi_dcmi.c``, as of January 2023), of a reading that
is active, by a program that ended well. Anything else is no reading.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from underlay.live.meters.controller import ControllerFailed, ControllerMeter, is_believable
from underlay.live.meters.meter import Found
from underlay.live.settings import IpmiSettings

PROGRAM = "ipmitool"
#: A session over the network takes some ten messages.
REPLY_S = 5.0
#: Where the program mostly is, and a service's path mostly is not.
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
_SAID_MAX = 200
_READING = re.compile(r"[ \t]*Instantaneous power reading:[ \t]+(\d{1,8}) Watts[ \t]*")
_STATE = re.compile(r"[ \t]*Power reading state is:[ \t]+(\w+)[ \t]*")
_FIX_LOCAL = "load the kernel's module ipmi_devintf, and let this user use /dev/ipmi0; or set meters.ipmi.host"
_FIX_ABSENT = f"install {PROGRAM}, or say meters.ipmi.mode: off"
_FIX_HOST = "see that host, user and password_file under meters.ipmi are right, and that it speaks IPMI over LAN"


class IpmiMeter(ControllerMeter):
    """The host, by its management controller, asked by a child process that ends with each reading."""

    family = "ipmi"

    def __init__(self, settings: IpmiSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("ipmi:host", clock)
        self._settings = settings
        self._asking: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()

    def interrupt(self) -> None:
        """End a reading that is going on, from any thread."""
        with self._starting:
            self._over = True
            if self._asking is not None:
                _kill(self._asking)

    def close(self) -> None:
        """Nothing is held between readings."""
        self._over = True

    def _sample(self) -> tuple[float, float]:
        began_s = self._clock()
        said = self._said()
        power_w = watts(said)
        if power_w is None:
            raise ControllerFailed(f"{PROGRAM} tells no power: {_brief(said) or 'it says nothing'}")
        return (began_s + self._clock()) / 2.0, power_w

    def _said(self) -> str:
        """What the program says of the power."""
        child = self._started()
        try:
            said, troubles = child.communicate(timeout=REPLY_S)
        except subprocess.TimeoutExpired:
            raise ControllerFailed(f"no answer within {REPLY_S:g} s") from None
        finally:
            with self._starting:
                self._asking = None
            _kill(child)
            child.wait()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        if child.returncode != 0:
            raise ControllerFailed(_brief(troubles) or _brief(said) or f"{PROGRAM} ends with {child.returncode}")
        return said

    def _started(self) -> subprocess.Popen[str]:
        program = installed()
        if program is None:
            raise ControllerFailed(f"{PROGRAM} is not installed")
        file = self._settings.password_file
        if file is not None and not os.access(file, os.R_OK):
            raise ControllerFailed(f"{file} cannot be read")  # or it would go there without a password
        with self._starting:
            if self._over:
                raise ControllerFailed("it is over")
            try:
                self._asking = subprocess.Popen(  # noqa: S603
                    [program, *arguments(self._settings)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={"PATH": os.defpath, "LC_ALL": "C"},  # nothing of ours is its business
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # no terminal to ask for a password, and all of it can be ended
                )
            except OSError as error:
                raise ControllerFailed(f"{program}: {error.strerror}") from None
            return self._asking


def arguments(settings: IpmiSettings) -> list[str]:
    """What the program is called with; no secret is among it."""
    asked = ["dcmi", "power", "reading"]
    if settings.host is None:
        return asked
    login = ["-U", str(settings.user), "-f", str(settings.password_file), "-L", "USER"]
    return ["-I", "lanplus", "-H", settings.host, *login, *asked]


def watts(said: str) -> float | None:
    """The power that the program tells; ``None`` if it tells none, or one that was not being read."""
    readings = [found[1] for line in said.splitlines() if (found := _READING.fullmatch(line))]
    states = [found[1] for line in said.splitlines() if (found := _STATE.fullmatch(line))]
    if len(readings) != 1 or any(state != "activated" for state in states):
        return None
    power_w = float(readings[0])
    return power_w if is_believable(power_w) else None


def installed() -> str | None:
    """Where the program is."""
    return shutil.which(PROGRAM, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")


def find(settings: IpmiSettings) -> Found:
    """The controller, asked once. One that fails now is taken too: it may come back."""
    if installed() is None:
        return Found((), f"{PROGRAM} is not installed", _FIX_ABSENT, wrong=True)
    meter = IpmiMeter(settings)
    if meter.read() is not None:
        return Found((meter,), "")
    whom = settings.host or "this host's controller"
    fix = _FIX_LOCAL if settings.host is None else _FIX_HOST
    return Found((meter,), f"{whom}: {meter.trouble}", fix, wrong=True)


def _kill(child: subprocess.Popen[str]) -> None:
    """End the program, and whatever it started, if it runs."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _brief(said: str) -> str:
    """Its first words."""
    return " ".join(said.split())[:_SAID_MAX]
