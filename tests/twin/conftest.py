"""A recorded minute for those that only read it."""

import pytest
from tests.twin.journals import Recorder


@pytest.fixture(scope="session")
def minute(tmp_path_factory):
    """The journal of a minute with 60 calls, a replica that is lost and comes back, and one caller who leaves."""
    recorder = Recorder()
    recorder.crowd()
    recorder.later(11.0, recorder.platform.lose, "m/1", "killed")
    recorder.later(16.0, recorder.platform.start, "m/1")
    return recorder.write(tmp_path_factory.mktemp("journal") / "minute.journal")
