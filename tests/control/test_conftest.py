"""The guard that keeps the world out of decisions bites, and bites nobody else."""

import time

import pytest

PROBES = {
    "clock": "import time; time.monotonic()",
    "dice": "import random; random.random()",
    "names": "import uuid; uuid.uuid4()",
    "file": "open('/dev/null')",
    "socket": "import socket; socket.socket()",
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_core_code_that_touches_the_world_is_caught(probe):
    with pytest.raises(AssertionError, match="while a decision was made"):
        exec(probe, {"__name__": "underlay.control.probe"})


def test_others_may():
    assert time.monotonic() > 0
    exec(PROBES["clock"] + ";" + PROBES["dice"], {"__name__": "underlay.live.probe"})
