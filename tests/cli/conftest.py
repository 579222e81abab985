"""Every test has a home of its own, no settings, and no variable of the machine it runs on."""

import os

import pytest
from click.testing import CliRunner

from underlay.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for variable in [variable for variable in os.environ if variable.startswith(("UNDERLAY_", "XDG_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data_dir(home):
    return home / ".local/share/underlay"


@pytest.fixture
def underlay():
    """Run a command line; the result has ``exit_code``, ``stdout`` and ``stderr``."""

    def run(*arguments, stdin=None):
        result = CliRunner().invoke(main, list(arguments), input=stdin, prog_name="underlay")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run
