"""What each verb prints."""

import json
import socket
import sys
import types

import click
import pytest

from underlay.cli import up
from underlay.cli.journey import waterfall
from underlay.domain.answer import Usage
from underlay.domain.views import Hop, Journey, LedgerRow, PlatformRow
from underlay.live import keyring, locate
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter
from underlay.twin import replay as twin_replay

from .stub import JOURNEY, KEY, REQUEST_ID, platform

# keys


def test_a_key_is_created_listed_rotated_and_revoked(underlay, data_dir):
    created = underlay("keys", "create", "--tenant", "acme", "--name", "app", "--model", "m", "--concurrent", "3")
    secret = created.stdout.strip()
    assert keyring.well_formed(secret)
    assert "the only time that its secret is shown" in created.stderr
    listed = underlay("keys", "list")
    assert secret[:8] + "…" in listed.stdout
    assert secret not in listed.stdout + listed.stderr
    assert "3 open" in listed.stdout
    rotated = json.loads(underlay("keys", "rotate", "app", "--overlap", "1h", "--json").stdout)
    assert rotated["key"]["tenant"] == "acme"
    assert keyring.well_formed(rotated["secret"])
    keys = json.loads(underlay("keys", "list", "--json").stdout)["keys"]
    assert [key["state"] for key in keys] == ["live", "live"]
    assert all("digest" not in key for key in keys)
    assert underlay("keys", "revoke", "app").stdout == f"{rotated['key']['id']} (app) is revoked\n"
    assert underlay("keys", "revoke", secret[:8]).exit_code == 0
    assert underlay("keys", "list").stdout == ""
    assert len(json.loads(underlay("keys", "list", "--all", "--json").stdout)["keys"]) == 2
    assert underlay("keys", "revoke", "nobody").exit_code == 3
    assert underlay("keys", "create").exit_code == 2
    assert underlay("keys", "create", "--tenant", "x", "--expires-in", "soon").exit_code == 2


def test_a_rotated_local_key_stays_the_local_key(underlay, data_dir):
    with Store(data_dir) as store:
        old = keyring.local_secret(store, data_dir, 1.0)
    secret = underlay("keys", "rotate", "local").stdout.strip()
    assert secret != old
    assert keyring.read_local(data_dir) == secret


# journey


def stored(number):
    hops = (Hop("identity", 0.0, 0.1, why="its key is live"),)
    return Journey(
        f"req_{number}", 1.7e9 + number, "gemini", "chat", "m", "acme", "key_1", "finished", 200, Usage(1, 0, 2), "0",
        5.0, None, 2, hops,
    )  # fmt: skip


def test_a_journey_is_a_waterfall(underlay, data_dir):
    with platform(data_dir):
        assert underlay("journey", REQUEST_ID).exit_code == 0
        text = underlay("journey", "req_7G").stdout
    assert text.splitlines()[2:] == [
        "without effect here: seed",
        "",
        "        0.0 ms  identity        0.2 ms  ▏·······················  key_1; its key is live",
        "        0.2 ms  routing         0.1 ms  ▏·······················  r1: least loaded of 2",
        "        0.3 ms  engine         99.7 ms  ████████████████████████  r1; 3 tokens",
    ]
    assert "m · 12 (4 cached) + 3 tokens · $0.0000012 · local · openai chat · 2023-11-1" in text


def test_journeys_are_found_without_a_platform(underlay, data_dir):
    assert underlay("journey").stdout == ""
    assert underlay("journey", "req_1").exit_code == 3
    writer = StoreWriter(data_dir)
    for number in (10, 11, 2):
        writer.submit_journey(stored(number))
    assert writer.close()
    assert "finished 200 in 5.0 ms, 2 attempts" in underlay("journey", "req_10").stdout
    assert json.loads(underlay("journey", "req_2", "--json").stdout)["journey"]["dialect"] == "gemini"
    ambiguous = underlay("journey", "req_1", "--json")
    assert ambiguous.exit_code == 3
    assert json.loads(ambiguous.stderr)["error"]["message"] == "req_1 could be req_11, req_10"
    assert underlay("journey", "%").exit_code == 3
    assert [line.split()[0] for line in underlay("journey").stdout.splitlines()] == [
        "id",
        "req_11",
        "req_10",
        "req_2",
    ]


def test_a_running_platform_lists_its_journeys(underlay, data_dir):
    with platform(data_dir) as server:
        assert json.loads(underlay("journey", "--json").stdout)["journeys"] == [JOURNEY]
        assert underlay("journey", "--url", server.url).exit_code == 0
        assert underlay("journey", "req_unknown").exit_code == 3
        assert underlay("journey", "../platform").exit_code == 3
        assert underlay("journey", "--key", "ul_wrong").exit_code == 4


def test_a_journey_cannot_command_the_terminal():
    evil = JOURNEY | {
        "id": "req_\x1b]0;x\x07",
        "tenant": "a\x1b[2J",
        "hops": [JOURNEY["hops"][0] | {"why": "\x1b[H"}],
    }
    text = click.unstyle(waterfall(evil))
    assert "\x1b" not in text
    assert "\x07" not in text


# ps


def test_ps_shows_platform_and_replicas(underlay, data_dir):
    with platform(data_dir) as server:
        text = underlay("ps").stdout
        said = json.loads(underlay("ps", "--json").stdout)
    assert text.startswith(f"Underlay 0.1.0  ready, process 77, up 1 h 2 min\n{server.url}  console {server.url}\n")
    assert text.splitlines()[-1].split()[:5] == ["r1", "m", "ready", "llamacpp", "http://127.0.0.1:9"]
    assert said["platform"]["pid"] == 77
    assert said["replicas"][0]["name"] == "r1"
    assert underlay("ps").exit_code == 7


# drain


def test_a_replica_is_drained_and_put_back(underlay, data_dir):
    with platform(data_dir) as server:
        server.states[:] = ["draining", "ready"]
        assert underlay("drain", "r1").stdout == "r1 is draining; 1 stream is on it\n"
        server.states[:] = ["draining", "draining", "lost", "drained"]
        waited = underlay("drain", "r1", "--wait")
        assert waited.stdout == "r1 is drained\n"
        assert waited.stderr.splitlines() == ["r1 is draining; 1 stream is on it", "r1 is lost"]
        server.states[:] = ["ready"]
        assert json.loads(underlay("drain", "r1", "--undo", "--json").stdout)["replica"]["state"] == "ready"
        asked = [(body["replica"], body["drain"]) for body in server.asked]
        assert asked == [("r1", True), ("r1", True), ("r1", False)]
        server.states[:] = ["draining", "draining"]
        assert "no other replica of m is ready" in underlay("drain", "r1").stderr
        unknown = underlay("drain", "r2")
        assert (unknown.exit_code, unknown.stdout) == (3, "")
        assert "there is no such replica" in unknown.stderr
        assert underlay("drain", "r1", "--key", "ul_wrong").exit_code == 4
    assert underlay("drain", "r1").exit_code == 7


# ledger


def test_the_ledger_adds_up(underlay, data_dir):
    assert json.loads(underlay("ledger", "--json").stdout)["total"]["requests"] == 0
    assert not data_dir.exists()
    writer = StoreWriter(data_dir)
    for number, tenant in enumerate(["acme", "acme", "=cmd()"]):
        writer.submit_charge(
            LedgerRow(f"r{number}", 1.7e9, tenant, "k", "m", "finished", Usage(10, 4, 3), 1_500_000)
        )
    assert writer.close()
    assert underlay("ledger").stdout == (
        "tenant  requests  prompt tokens  cached tokens  completion tokens   cost usd\n"
        "=cmd()         1             10              4                  3  0.0000015\n"
        "acme           2             20              8                  6   0.000003\n"
        "total          3             30             12                  9  0.0000045\n"
    )
    rows = [line.split(",")[:6] for line in underlay("ledger", "--csv").stdout.splitlines()[1:]]
    assert rows == [["'=cmd()", "1", "10", "4", "3", "0.0000015"], ["acme", "2", "20", "8", "6", "0.000003"]]
    said = json.loads(underlay("ledger", "--by", "day", "--since", "2023-11-14", "--json").stdout)
    assert [row["day"] for row in said["rows"]] == ["2023-11-14"]
    assert json.loads(underlay("ledger", "--since", "1d", "--json").stdout)["rows"] == []
    assert underlay("ledger", "--since", "2023-02-30").exit_code == 2
    assert "period is empty" in underlay("ledger", "--since", "1d", "--until", "2d").stderr
    assert underlay("ledger", "--since", "yesterday").exit_code == 2


# config


def test_config_check(underlay, home):
    assert underlay("config", "check").stdout == "no settings file: the defaults: valid\n"
    (home / "underlay.yaml").write_text("public:\n  prot: 1\n")
    result = underlay("config", "check")
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == (
        "underlay.yaml:2:3: public.prot: unknown key; did you mean 'port'?\n      prot: 1\n      ^^^^\n"
        "error: 1 finding in the settings\n  try: underlay config schema\n"
    )
    said = underlay("config", "check", "--json")
    assert json.loads(said.stdout)["findings"][0]["where"] == "underlay.yaml:2:3"
    assert json.loads(said.stderr)["error"]["code"] == "settings_invalid"
    assert underlay("config", "check", "nowhere.yaml").exit_code == 5
    assert underlay("up").exit_code == 5


def test_config_show_tells_the_origin(underlay, home, monkeypatch):
    (home / "underlay.yaml").write_text("public:\n  port: 9000\n")
    monkeypatch.setenv("UNDERLAY_CONSOLE__PORT", "9001")
    lines = [line.split() for line in underlay("config", "show", "--origin").stdout.splitlines()]
    assert ["public.port", "9000", "underlay.yaml:2:9"] in lines
    assert ["console.port", "9001", "env", "UNDERLAY_CONSOLE__PORT"] in lines
    assert ["desk.wait_max_s", "120.0", "default"] in lines
    assert "  port: 9000\n" in underlay("config", "show").stdout
    assert json.loads(underlay("config", "show", "--json").stdout)["settings"]["public"]["port"] == 9000
    (home / "copy.yaml").write_text(underlay("config", "show").stdout)
    assert underlay("config", "check", "copy.yaml").exit_code == 0
    assert json.loads(underlay("config", "schema").stdout)["title"] == "Underlay settings"


# up


@pytest.fixture
def fake_platform(monkeypatch):
    """Put a platform in place that starts at once and stops at once."""
    module = types.ModuleType("underlay.live.platform")
    module.settings = []

    def run(settings, *, announce, console, progress):
        module.settings.append(settings)
        progress("starting 1 replica")
        if settings.log.level == "error":
            return 0
        urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
        announce(PlatformRow("0.1.0", 7, *urls, 0.0, 0, 0, True, tuple(m.name for m in settings.models)), KEY)
        return 0

    module.run = run
    monkeypatch.setitem(sys.modules, "underlay.live.platform", module)
    monkeypatch.setattr("underlay.live.platform", module, raising=False)
    return module


FREE = ("--port", "0", "--console-port", "0")


def test_up_tells_everything_needed_to_try_it(underlay, fake_platform, data_dir):
    result = underlay("up", *FREE, "--replicas", "1")
    assert result.exit_code == 0
    assert result.stderr == "starting 1 replica\n"
    for text in (
        "API      http://127.0.0.1:1/v1",
        f"Console  http://127.0.0.1:2/#key={KEY}",
        f"curl http://127.0.0.1:1/v1/chat/completions \\\n    -H 'Authorization: Bearer {KEY}'",
        "a small base model",
        "underlay up --model PATH_TO_A.gguf",
        "ai.google.dev/gemma/terms",
    ):
        assert text in result.stdout
    [settings] = fake_platform.settings
    assert (settings.public.port, settings.models[0].engine.replicas, settings.data_dir) == (0, 1, data_dir)
    said = json.loads(underlay("up", *FREE, "--json").stdout)
    assert (said["public_url"], said["key"], said["models"]) == ("http://127.0.0.1:1", KEY, ["gemma-3-270m"])


def test_another_model_is_called_by_its_file_name(underlay, fake_platform, home):
    (home / "My Model_Q4.gguf").write_bytes(b"GGUF")
    result = underlay("up", *FREE, "--model", "My Model_Q4.gguf")
    assert "Gemma" not in result.stdout
    assert fake_platform.settings[0].models[0].name == "my-model_q4"
    assert fake_platform.settings[0].models[0].engine.path == home / "My Model_Q4.gguf"
    (home / "underlay.yaml").write_text("models: [{name: mine}]")
    underlay("up", *FREE, "--model", "My Model_Q4.gguf")
    assert fake_platform.settings[1].models[0].name == "mine"
    assert underlay("up", "--model", "nowhere.gguf").exit_code == 2
    assert up.model_name(home / "....gguf") == "model"


def test_a_busy_port_is_told_with_who_has_it(underlay, fake_platform):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = underlay("up", "--port", str(port), "--console-port", "0")
    assert result.exit_code == 1
    assert f"error: port {port} (public.port) is in use by " in result.stderr
    assert "try: underlay up --port 0" in result.stderr
    assert fake_platform.settings == []


def test_a_data_directory_has_one_platform(underlay, fake_platform, data_dir, monkeypatch):
    def refuse(data_dir):
        raise locate.AlreadyRunning(data_dir, 4711)

    monkeypatch.setattr(locate, "hold", refuse)
    result = underlay("up", *FREE)
    assert result.exit_code == 1
    assert f"{data_dir} is in use by process 4711" in result.stderr


def test_a_platform_that_never_was_ready_is_a_failure(underlay, fake_platform, monkeypatch):
    monkeypatch.setenv("UNDERLAY_LOG__LEVEL", "error")
    monkeypatch.setenv("UNDERLAY_LGO__LEVEL", "error")
    result = underlay("up", *FREE)
    assert result.exit_code == 1
    assert "stopped before any replica was ready" in result.stderr
    assert "warning: UNDERLAY_LGO__LEVEL: no such setting" in result.stderr


# twin


def test_twin_replay_needs_journals_that_are_there(underlay, home):
    assert underlay("twin", "replay").exit_code == 2
    result = underlay("twin", "replay", "nowhere.journal")
    assert result.exit_code == 3
    assert "no such journal: nowhere.journal" in result.stderr
    (home / "noise").write_bytes(b"noise")
    assert underlay("twin", "replay", "noise").exit_code == 1


def test_twin_replay_tells_what_differs(underlay, home, monkeypatch):
    def replay(path):
        equal = path.name == "good"
        difference = None if equal else "event 3: effect 1 was A, is now B"
        return twin_replay.ReplayReport(str(path), "0.1.0", 5, 7, equal, difference, 0, 60.0)

    monkeypatch.setattr(twin_replay, "replay", replay)
    for name in ("good", "bad"):
        (home / name).write_bytes(b"")
    assert underlay("twin", "replay", "good").exit_code == 0
    result = underlay("twin", "replay", "good", "bad")
    assert result.exit_code == 6
    assert "differ: event 3: effect 1 was A, is now B" in result.stdout
    said = underlay("twin", "replay", "good", "bad", "--json")
    assert said.exit_code == 6
    assert [row["equal"] for row in json.loads(said.stdout)["journals"]] == [True, False]
