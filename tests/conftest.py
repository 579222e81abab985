"""What holds for every test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from underlay.live.engines.weights import bundled_model

# A shell that starts the tests in the background leaves SIGINT ignored, and children inherit that: nothing that a
# test starts could then be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every platform and command that a test starts would compile the whole package again: 0.9 s of processor time and not
# 0.5, a hundred times.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# The gate judges a change, not its luck: the same examples each time. "explore" draws new ones.
hypothesis.settings.register_profile("gate", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, put together once for all who need it and for the next time: 253 MB and some seconds."""
    own = tmp_path_factory.getbasetemp()
    runs = own.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else own.parent
    return bundled_model(runs / "models")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """A file's tests stay together, whatever ``--dist`` says, as they share platforms; files go in their order.

    The usual order, most tests first, would leave the slow files with few tests to the end.
    """
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
