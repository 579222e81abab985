"""``doctor``: finds what is missing, and says what to do."""

import json
import socket
import subprocess
import sys

import pytest
from tests.support.meters import Device, FakeNvml

from underlay.cli import doctor
from underlay.cli.doctor import Check

from .stub import platform


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Loading the native engine takes a while; one test does."""
    if "engine" not in request.node.name:
        monkeypatch.setattr(doctor, "_engine", lambda: Check("xllamacpp", "ok", "loads"))


def found(underlay, *arguments):
    result = underlay("doctor", "--json", *arguments)
    said = json.loads(result.stdout)
    assert result.exit_code == (0 if said["healthy"] else 6)
    return {check["name"]: check for check in said["checks"]}


def test_doctor_looks_at_everything(underlay, monkeypatch):
    monkeypatch.setenv("UNDERLAY_PUBLIC__PORT", "0")
    monkeypatch.setenv("UNDERLAY_CONSOLE__PORT", "0")
    checks = found(underlay)
    for name in ("python", "settings", "weights", "data directory", "public port", "sqlite", "clock", "platform"):
        assert checks[name]["verdict"] == "ok", checks[name]
    assert "ai.google.dev/gemma/terms" in checks["licence of the weights"]["message"]
    text = underlay("doctor").stdout
    assert "✔ python: 3." in text


def test_the_engine_is_loaded_in_another_process(monkeypatch):
    assert doctor._engine().verdict == "ok"
    crashed = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: crashed)
    assert "cannot be loaded: signal 11" in doctor._engine().message


def test_wrong_settings_are_shown_with_their_place(underlay, home):
    (home / "underlay.yaml").write_text("public: {prot: 1}")
    check = found(underlay)["settings"]
    assert check["verdict"] == "failure"
    assert "underlay.yaml:1:10: public.prot" in check["message"]


def test_a_busy_port_an_open_directory_and_a_wrong_model_are_found(underlay, home, monkeypatch):
    (home / "data").mkdir(mode=0o755)
    (home / "a.gguf").write_bytes(b"not a model")
    monkeypatch.setenv("UNDERLAY_MODELS__0__ENGINE__PATH", "a.gguf")
    monkeypatch.setenv("UNDERLAY_OTHER", "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("UNDERLAY_PUBLIC__PORT", str(taken.getsockname()[1]))
        checks = found(underlay, "--data-dir", "data")
    verdicts = {name: check["verdict"] for name, check in checks.items()}
    assert verdicts["public port"] == "warning"
    assert verdicts["data directory"] == "warning"
    assert verdicts["model gemma-3-270m"] == "failure"
    assert verdicts["settings"] == "warning"
    assert "weights" not in verdicts


def test_a_running_platform_is_asked(underlay, data_dir):
    with platform(data_dir):
        check = found(underlay)["platform"]
    assert check["verdict"] == "warning"  # the stub has no readiness to tell
    assert "is not ready" in check["message"]


def test_meters_are_told_and_a_controller_that_does_not_answer_is_doubtful(underlay, monkeypatch):
    monkeypatch.setenv("UNDERLAY_METERS__RAPL", "off")
    monkeypatch.setenv("UNDERLAY_METERS__NVML", "off")
    checks = found(underlay)
    assert checks["meter of host"]["verdict"] == "ok"
    assert "off in the settings" in checks["meter of processors and memory"]["message"]
    assert checks["energy of this host"]["message"].startswith("processor:engines; without")
    assert checks["sharing of energy"]["message"].startswith("shapley: ")
    with socket.socket() as silent:  # bound, and nobody listens
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("UNDERLAY_METERS__REDFISH__URL", f"https://127.0.0.1:{silent.getsockname()[1]}")
        check = found(underlay)["meter of host"]
    assert check["verdict"] == "warning"
    assert "meters.redfish" in check["fix"]
    monkeypatch.delenv("UNDERLAY_METERS__REDFISH__URL")
    monkeypatch.setenv("UNDERLAY_METERS__IPMI__MODE", "auto")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("underlay.live.meters.ipmi._SYSTEM_PATH", "")
    check = found(underlay)["meter of host"]
    assert check["message"].endswith("ipmitool is not installed")
    assert (check["verdict"], "install ipmitool" in check["fix"]) == ("warning", True)


def test_power_caps_that_cannot_be_set_are_found(underlay, monkeypatch, data_dir):
    assert "power caps" not in found(underlay)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (data_dir / "power-limits.json").write_text('{"GPU-0": 700000}')
    assert "killed" in found(underlay)["power caps"]["message"]
    monkeypatch.setenv("UNDERLAY_POWER_CAPS__MODE", "slo")
    fake = FakeNvml(Device())
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert found(underlay)["power caps"]["verdict"] == "ok"
    fake.permits = False
    check = found(underlay)["power caps"]
    assert (check["verdict"], "Insufficient Permissions" in check["message"]) == ("failure", True)
    assert "as root" in check["fix"]
    monkeypatch.setenv("UNDERLAY_METERS__NVML", "off")
    assert "meters.nvml" in found(underlay)["power caps"]["fix"]


def test_a_clock_far_in_the_past_is_found():
    assert doctor._clock(lambda: 0.0).verdict == "failure"


def test_little_room_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "FREE_MB_MIN", 10**12)
    assert doctor._disk(tmp_path / "not/there/yet", bundled=True).verdict == "warning"
