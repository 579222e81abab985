"""``ask``: the answer as it comes, the journey below it, and a platform started only if none runs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from underlay.cli import ask
from underlay.live import locate

from .stub import KEY, REQUEST_ID, frames, platform


def test_the_answer_comes_first_and_the_journey_below(underlay, data_dir):
    with platform(data_dir) as server:
        result = underlay("ask", "Capital?", "--system", "Be short.", "--max-tokens", "5", "--temperature", "0")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Paris.\n\n{REQUEST_ID}  finished 200 in 100 ms, first token after 40 ms\n")
    assert "r1: least loaded of 2" in result.stdout
    assert result.stderr == ""
    assert server.asked == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Capital?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 5,
            "temperature": 0.0,
        }
    ]


def test_with_json_everything_is_one_object(underlay, data_dir):
    with platform(data_dir):
        said = json.loads(underlay("ask", "Capital?", "--model", "m", "--json").stdout)
    assert said["answer"] == "Paris."
    assert said["usage"]["total_tokens"] == 15
    assert said["cost"] == {"usd": "0.0000012"}
    assert said["journey"]["id"] == said["request_id"] == REQUEST_ID
    assert said["finish_reason"] == "stop"


def test_the_question_may_come_through_a_pipe(underlay, data_dir):
    with platform(data_dir) as server:
        underlay("ask", "-", stdin="Früh?\n")
        underlay("ask", stdin="Spät?\n")
    assert [body["messages"][0]["content"] for body in server.asked] == ["Früh?\n", "Spät?\n"]
    assert underlay("ask", "").exit_code == 2


def test_nothing_heavy_is_imported_before_the_first_token(data_dir):
    code = (
        "import sys; sys.argv = ['underlay', 'ask', 'Capital?']\n"
        "write = sys.stdout.write\n"
        "def first(text):\n"
        "    heavy = {'pydantic', 'aiohttp', 'msgspec', 'rich', 'asyncio', 'yaml', 'http.client'} & set(sys.modules)\n"
        "    write(f'{sorted(heavy)} ')\n"
        "    return write(text)\n"
        "sys.stdout.write = first\n"
        "from underlay.cli import main\n"
        "main(prog_name='underlay')"
    )
    with platform(data_dir):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] Par[] is.")


def test_an_address_and_a_key_win_over_what_runs_here(underlay, data_dir, monkeypatch):
    with platform(None) as other, platform(data_dir) as here:
        result = underlay("ask", "Capital?", "--url", f"{other.url}/v1/", "--key", KEY)
        assert result.stdout == "Paris.\n"  # nobody told where its console is
        monkeypatch.setenv("UNDERLAY_URL", here.url)
        assert REQUEST_ID in underlay("ask", "Capital?").stdout
        assert (len(other.asked), len(here.asked)) == (1, 1)


def test_the_local_key_is_shown_to_no_other_address(underlay, data_dir):
    with platform(None) as other, platform(data_dir):
        result = underlay("ask", "Capital?", "--url", other.url)
        assert result.exit_code == 4
        assert "no key for" in result.stderr
        assert other.asked == []


def test_a_wrong_key_is_told_in_the_platforms_words(underlay, data_dir):
    with platform(data_dir):
        result = underlay("ask", "Capital?", "--key", "ul_wrong")
        assert (result.exit_code, result.stdout) == (4, "")
        assert "error: this key is unknown" in result.stderr
        assert underlay("ask", "Capital?", "--key", "ül_wrong").exit_code == 4


def test_an_error_in_the_middle_of_an_answer_is_an_error(underlay, data_dir):
    broken = [
        *frames("Par", ending=False),
        b'data: {"error": {"message": "engine lost", "code": "upstream_failed"}}\n\n',
    ]
    with platform(data_dir, broken):
        result = underlay("ask", "Capital?")
    assert (result.exit_code, result.stdout) == (1, "Par")
    assert "error: engine lost" in result.stderr


@pytest.mark.parametrize("cut", [True, False])
def test_an_answer_without_an_end_is_an_error(underlay, data_dir, cut):
    with platform(data_dir, list(frames("Par", ending=False))) as server:
        server.cut = cut
        result = underlay("ask", "Capital?")
    assert (result.exit_code, result.stdout) == (7, "Par")


def test_nobody_at_an_address_is_unreachable(underlay):
    result = underlay("ask", "Capital?", "--url", "127.0.0.1:1", "--key", KEY)
    assert result.exit_code == 7
    assert "nobody listens at 127.0.0.1:1" in result.stderr
    assert underlay("ask", "Capital?", "--url", "ftp://x", "--key", KEY).exit_code == 1


REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def children(monkeypatch):
    """Put the stub in the place of ``underlay up``, and remember what was started."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, arguments, **options):
            started.append((arguments, self))
            stub = [sys.executable, "-m", "tests.cli.stub", *(["--fail"] if "fail.yaml" in str(arguments) else [])]
            options["cwd"] = str(REPOSITORY)
            super().__init__(stub, **options)

    monkeypatch.setattr(ask.subprocess, "Popen", Popen)
    return started


def test_without_a_platform_one_is_started_and_stopped(underlay, children, data_dir):
    result = underlay("ask", "Capital?")
    assert result.exit_code == 0
    assert result.stdout.startswith("Paris.\n")
    assert "starting one for this question" in result.stderr
    assert "'underlay up' keeps one running" in result.stderr
    [(arguments, child)] = children
    assert arguments[2:6] == ["underlay", "up", "--json", "--data-dir"]
    assert arguments[6:] == [
        str(data_dir),
        "--port",
        "0",
        "--console-port",
        "0",
        "--replicas",
        "1",
        "--until-stdin-closes",
    ]
    assert child.returncode == 0


def test_a_platform_may_be_kept(underlay, children, data_dir):
    result = underlay("ask", "Capital?", "--keep")
    [(arguments, child)] = children
    try:
        assert result.exit_code == 0
        assert f"goes on running as process {child.pid}" in result.stderr
        assert arguments[6:] == [str(data_dir)]
        ticks = locate.process_ticks(child.pid)
        assert ticks
        assert (data_dir / "up.log").exists()
    finally:
        child.returncode = None
        child.terminate()
        child.wait(10)


def test_a_platform_that_does_not_start_is_told(underlay, children, home):
    (home / "fail.yaml").write_text("")
    result = underlay("ask", "Capital?", "--config", "fail.yaml")
    assert result.exit_code == 5
    assert "the platform did not start" in result.stderr


def test_a_child_ends_with_its_caller(home, monkeypatch):
    code = (
        "import os, sys, time, threading\n"
        "from underlay.cli import up\n"
        "threading.Thread(target=up._stop_when_stdin_closes, daemon=True).start()\n"
        "print('there', flush=True); time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"there\n"
        began = time.monotonic()
        child.stdin.close()
        assert child.wait(10) == -15
        assert time.monotonic() - began < 10
