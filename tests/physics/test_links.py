from __future__ import annotations

from math import inf

import pytest

from underlay.domain.errors import NotFound
from underlay.physics.links import link_kind, link_kinds, lossy_ceiling_bytes_s, queueing_s, retransmission_s


def test_kinds_are_published_and_have_sources():
    assert link_kind("nvlink4").bytes_s == 450e9
    assert link_kind("eth-400g").latency_s == pytest.approx(2e-6)
    assert all(kind.source for kind in link_kinds().values())
    assert link_kind("ib-xdr").latency_s is None  # never guessed
    with pytest.raises(NotFound, match="did you mean nvlink4"):
        link_kind("nvlink44")


def test_a_queue_grows_with_load_up_to_its_buffer():
    waits = [queueing_s(share, 1e9, 1e-3) for share in (-0.1, 0.0, 0.3, 0.5, 0.9, 0.99, 1.0, 2.0)]
    assert waits == sorted(waits)
    assert (waits[1], waits[3], waits[-1]) == (0.0, pytest.approx(65536 / 1e9), 1e-3)


def test_loss_bounds_tcp_by_the_root_and_the_round_trip():
    # Mathis et al.: 1,460 bytes, 100 ms, 1 % loss: 1,460 / 0.1 x sqrt(150), about 179 kB/s.
    assert lossy_ceiling_bytes_s(0.01, 0.1, 1) == pytest.approx(178_813, rel=1e-4)
    assert lossy_ceiling_bytes_s(0.04, 0.2, 1) == pytest.approx(178_813 / 4, rel=1e-4)
    assert lossy_ceiling_bytes_s(0.0, 0.1, 1) == inf
    assert (retransmission_s(0.02), retransmission_s(0.3)) == (0.2, 0.6)
