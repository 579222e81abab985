"""A management controller asked by ``ipmitool``: what is believed, what is not, and what is never told to anybody."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tests.support.meters import Clock

from underlay.live.meters import ipmi, ladder
from underlay.live.meters.ipmi import IpmiMeter, watts
from underlay.live.meters.sampler import Sampler
from underlay.live.settings import IpmiSettings, MeterSettings

SAID = """
    Instantaneous power reading:              {:>8} Watts
    Minimum during sampling period:                  9 Watts
    Maximum during sampling period:                900 Watts
    Average power reading over sample period:      250 Watts
    IPMI timestamp:                           11/24/26 02:00:00 UTC    Sampling period:                          00000001 Seconds.
    Power reading state is:                   {}

"""
AUTO = IpmiSettings(mode="auto")


class FakeTool:
    """An ``ipmitool`` on the path: it says and does what it is told to, and notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.called = folder / "called"
        self.says(SAID.format(300, "activated"))

    def does(self, script: str) -> None:
        program = self.folder / "ipmitool"
        note = f'printf "%s\\n" "$@" > {self.called}; env > {self.folder}/environment; echo $$ > {self.folder}/pid'
        program.write_text(f"#!/bin/sh\n{note}\n{script}\n")
        program.chmod(0o755)

    def says(self, text: str) -> None:
        (self.folder / "answer").write_text(text)
        self.does(f"exec cat {self.folder}/answer")

    def pid(self) -> int:
        return int((self.folder / "pid").read_text())


@pytest.fixture
def tool(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return FakeTool(folder)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_watts_become_joules(tool) -> None:
    meter = IpmiMeter(AUTO, clock=(clock := Clock()))
    before = meter.read()
    clock.on(2)
    tool.says(SAID.format(500, "activated"))
    consumed = meter.consumed(before, meter.read())
    assert consumed.joules == 800
    assert tool.called.read_text().split() == ["dcmi", "power", "reading"]
    assert (meter.method, meter.boundary.place, meter.id) == ("measured", "host", "ipmi:host")


@pytest.mark.parametrize(
    ("said", "power_w"),
    [
        (SAID.format(374, "activated"), 374.0),
        ("    Instantaneous power reading:              374 Watts\n", 374.0),
        (SAID.format(374, "deactivated"), None),
        (SAID.format(0, "activated"), None),
        (SAID.format(-5, "activated"), None),
        (SAID.format("37.4", "activated"), None),
        (SAID.format("nan", "activated"), None),
        (SAID.format(99_999_999, "activated"), None),
        (SAID.format(374, "activated") * 2, None),
        ("Instantaneous power reading: 374 Watts and more", None),
        ("Instantaneous power reading: 374 mWatts", None),
        ("Average power reading over sample period: 374 Watts", None),
        ("DCMI request failed because: Invalid command (c1)", None),
        ("", None),
    ],
)
def test_only_one_line_that_makes_sense_is_power(said, power_w) -> None:
    assert watts(said) == power_w


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'Could not open device at /dev/ipmi0' >&2; exit 1", "Could not open device at /dev/ipmi0"),
        (f"echo '{SAID.format(300, 'activated')}'; exit 1", "Instantaneous"),
        ("exit 3", "ipmitool ends with 3"),
        ("echo Hello", "tells no power: Hello"),
        ("exit 0", "tells no power: it says nothing"),
        ("head -c 300000 /dev/zero", "tells no power"),
        ("printf '\\377\\376'", "tells no power"),
    ],
)
def test_a_program_that_fails_or_says_something_else_is_no_reading(tool, script, why) -> None:
    tool.does(script)
    meter = IpmiMeter(AUTO, clock=(clock := Clock()))
    assert meter.read() is None
    assert why in meter.trouble
    assert len(meter.trouble) < 300
    assert meter.read() is None  # not asked again at once: controllers lock out
    tool.says(SAID.format(300, "activated"))
    clock.on(5)
    assert meter.read() is not None
    assert meter.trouble == ""


def test_the_password_is_on_no_command_line_and_in_no_environment(tool, tmp_path, monkeypatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    monkeypatch.setenv("UNDERLAY_SOMETHING", "s3cret too")
    meter = IpmiMeter(IpmiSettings(mode="auto", host="10.0.0.9", user="reader", password_file=secret))
    assert meter.read() is not None
    called = tool.called.read_text().split()
    assert called == [
        *("-I", "lanplus", "-H", "10.0.0.9", "-U", "reader", "-f", str(secret), "-L", "USER"),
        *("dcmi", "power", "reading"),
    ]
    assert "s3cret" not in (tool.folder / "environment").read_text()
    assert "s3cret" not in Path(f"/proc/{os.getpid()}/cmdline").read_text()


def test_without_its_password_nobody_is_asked(tool, tmp_path) -> None:
    gone = tmp_path / "gone"
    meter = IpmiMeter(IpmiSettings(mode="auto", host="bmc", user="reader", password_file=gone))
    assert meter.read() is None
    assert meter.trouble == f"{gone} cannot be read"
    assert not tool.called.exists()


def test_a_program_that_hangs_is_given_up_and_ended(tool, monkeypatch) -> None:
    monkeypatch.setattr(ipmi, "REPLY_S", 0.3)
    tool.does("sleep 60 & wait")
    meter = IpmiMeter(AUTO)
    began = time.monotonic()
    assert meter.read() is None
    assert time.monotonic() - began < 5
    assert meter.trouble == "no answer within 0.3 s"
    assert is_gone(tool.pid())


def test_a_sampler_that_stops_ends_the_program(tool) -> None:
    tool.does("sleep 60 & wait")
    sampler = Sampler(0.05)
    sampler.start([meter := IpmiMeter(AUTO)])
    while not (tool.folder / "pid").exists() or not (tool.folder / "pid").read_text().strip():
        time.sleep(0.005)
    sampler.stop()
    assert is_gone(tool.pid())
    assert not [thread for thread in threading.enumerate() if thread.name == "underlay-meters-ipmi"]
    assert meter.read() is None  # and it stays so
    assert meter.trouble == ""


def test_a_machine_without_the_program_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ipmi, "_SYSTEM_PATH", str(tmp_path))
    found = ipmi.find(AUTO)
    assert (found.meters, found.why, found.wrong) == ((), "ipmitool is not installed", True)
    assert "install ipmitool" in found.fix


def test_a_controller_that_fails_now_is_taken_and_one_that_answers_is_the_host(tool) -> None:
    none = {"nvml": lambda: ladder.Found((), "absent"), "rapl": lambda: ladder.Found((), "absent")}
    settings = MeterSettings(ipmi=AUTO)
    found = ladder.look(settings, tuple, none)
    assert found.host_message == "ipmi:host"
    assert not found.rungs[0].wrong
    tool.does("echo 'Could not open device' >&2; exit 1")
    found = ladder.look(settings, tuple, none)
    assert found.rungs[0].wrong
    assert "fails now: this host's controller: Could not open device" in found.describe()[0]
    assert "/dev/ipmi0" in found.rungs[0].fix
    assert found.meters[0].id == "ipmi:host"


def test_it_is_off_by_itself(tool) -> None:
    ladder.look(MeterSettings(nvml="off", rapl="off"), tuple)
    assert not tool.called.exists()
