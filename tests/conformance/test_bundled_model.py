"""The official clients against the bundled model."""

from __future__ import annotations

import pytest
from tests.conformance.matrix import check
from tests.conformance.running import PYTHONS, available, run_real


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_every_sdk(tmp_path, weights):
    for run in run_real(tmp_path, tuple(major for major in PYTHONS if available(major)), weights):
        check(run)
