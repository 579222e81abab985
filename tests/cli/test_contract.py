"""The contract that all verbs keep: help, speed of loading, errors, exit codes."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from underlay.cli import VERBS, _says, _target, main
from underlay.domain.errors import Conflict, Forbidden, NotFound
from underlay.live.settings import Settings

HEAVY = {
    "pydantic",
    "aiohttp",
    "starlette",
    "rich",
    "msgspec",
    "numpy",
    "uvloop",
    "yaml",
    "asyncio",
    "sqlite3",
    "http.client",
}


def commands(group=main, path=()):
    context = click.Context(group, info_name="underlay")
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["nonsense"], ["--version"]])
def test_what_everybody_types_first_imports_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['underlay', *{arguments}]\n"
        "from underlay.cli import main\n"
        "try: main(prog_name='underlay')\n"
        f"finally: print('HEAVY', sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "HEAVY []"


def test_the_program_is_there_under_both_names():
    for program in ([sys.executable, "-m", "underlay"], [Path(sys.executable).with_name("underlay")]):
        done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == "underlay 0.1.0\n"


def test_the_list_of_verbs_says_what_the_verbs_say(underlay):
    firsts = {path[0]: found.help.split("\n")[0] for path, found in commands() if len(path) == 1}
    assert firsts == VERBS
    listed = underlay("--help").stdout
    assert all(f"  {verb} " in listed and text in listed for verb, text in VERBS.items())
    assert underlay().stdout == listed


@pytest.mark.parametrize(
    ("path", "found"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_help_begins_with_a_verb_and_has_examples(path, found, underlay):
    text = underlay(*path, "--help").stdout
    examples = text.partition("  Examples:\n")[2].partition("\nOptions:")[0]
    assert 1 <= examples.count(f"underlay {' '.join(path)}") <= 4
    assert found.help.split("\n")[0].endswith((".", "once.", "stdout."))
    assert isinstance(found, click.Group) or path[0] == "completion" or "--json" in text


def test_options_tell_the_defaults_that_the_settings_have():
    defaults = json.loads(Settings().model_dump_json())
    told = 0
    for _, found in commands():
        for option in found.params:
            text = getattr(option, "help", None) or ""
            if "; config: " in text and "[default: " in text:
                setting = text.partition("; config: ")[2].rstrip("]")
                default = text.partition("[default: ")[2].partition(";")[0]
                value = defaults
                for step in setting.split("."):
                    value = value[int(step)] if isinstance(value, list) else value[step]
                assert value is None or str(value) == default
                told += 1
    assert told >= 5


def test_a_mistyped_verb_is_guessed(underlay):
    result = underlay("journy")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "error: no verb 'journy'; did you mean 'journey'?\n  try: underlay --help\n"


def test_a_mistyped_option_is_guessed(underlay):
    result = underlay("up", "--prot", "1")
    assert result.exit_code == 2
    assert "--port" in result.stderr
    assert "  try: underlay up --help" in result.stderr


def test_with_json_an_error_is_an_object_on_stderr(underlay, data_dir):
    result = underlay("ps", "--json")
    assert result.exit_code == 7
    assert result.stdout == ""
    assert json.loads(result.stderr) == {
        "schema_version": 1,
        "error": {"code": "not_running", "message": f"no platform runs on {data_dir}", "hint": "underlay up"},
    }


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("x"), 3), (Forbidden("x"), 4), (Conflict("x"), 1), (click.Abort(), 130)]
)
def test_errors_become_exit_codes(error, code):
    assert _says.failure_of(error).exit_code == code
    assert _says.failure_of(KeyError("a defect of ours keeps its traceback")) is None


def test_ctrl_c_ends_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        arguments = [sys.executable, "-m", "underlay", "ask", "Capital?", "--url", url, "--key", "ul_x"]
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as child, silent.accept()[0]:
            child.send_signal(signal.SIGINT)
            assert child.wait(10) == 130
            assert child.stderr.read().strip() == "interrupted"


def test_a_reader_that_has_seen_enough_is_no_error():
    pipe = f"{sys.executable} -m underlay config schema | head -c 1"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_colours_are_for_people_who_want_them(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _says.colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not _says.colour(Terminal())


def test_a_table_is_as_wide_as_it_must_be():
    rows = [["a", "1", "x\x1b[31m"], ["bbb", "200", ""]]
    assert click.unstyle(_says.table(["name", "n", "what"], rows)) == "name    n  what\na       1  x[31m\nbbb   200"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3725, "1 h 2 min"), (86_400, "1 d"), (90_000, "1 d 1 h")],
)
def test_spans(seconds, text):
    assert _says.span(seconds) == text


def test_completion_scripts(underlay):
    for shell in ("bash", "zsh", "fish"):
        assert "_UNDERLAY_COMPLETE" in underlay("completion", shell).stdout


def test_version(underlay):
    said = json.loads(underlay("version", "--json").stdout)
    assert said["version"] == "0.1.0"
    assert said["engines"]["llamacpp"]
    assert "underlay 0.1.0\npython 3." in underlay("version").stdout


def test_the_data_directory_is_known_without_reading_all_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    default = Settings().data_dir.expanduser()
    assert _target.data_dir(None, None, {}) == default
    (tmp_path / "underlay.yaml").write_text("public: {port: 1}\n")
    assert _target.data_dir(None, None, {}) == default
    (tmp_path / "underlay.yaml").write_text("data_dir: there\n")
    assert _target.data_dir(None, None, {}) == tmp_path / "there"
    assert _target.data_dir(None, None, {"UNDERLAY_DATA_DIR": "~/else"}) == tmp_path / "else"
    assert _target.data_dir("flag", None, {"UNDERLAY_DATA_DIR": "else"}).name == "flag"
