import pytest

from underlay.twin.fluid import surface


@pytest.fixture(scope="module")
def coarse():
    """Measure surfaces with fewer requests, where what is tested is not how well they are known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface, "_REQUESTS_MIN", 600)
        patch.setattr(surface, "_TOGETHER", 40.0)
        yield
