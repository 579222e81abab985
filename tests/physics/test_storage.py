from __future__ import annotations

import pytest

from underlay.domain.errors import NotFound
from underlay.physics.storage import engine_start, storage_kind, storage_kinds


def test_storage_is_published_and_has_sources():
    assert storage_kind("nvme-pcie5").read_bytes_s == 13e9
    assert storage_kind("gpfs-jeanzay").read_bytes_s is None  # only its writes were published
    assert all(kind.source for kind in storage_kinds().values())
    with pytest.raises(NotFound, match="kind of storage"):
        storage_kind("tape")


def test_the_start_of_an_engine_is_near_to_the_published_ones():
    start = engine_start()
    assert 0.1 < start.error < 0.3
    # vLLM on Llama 3: 39 s with 32 layers, 145 s with 80, without the process before.
    assert start.layer_s * 32 == pytest.approx(39.34, rel=0.3)
    assert start.layer_s * 80 == pytest.approx(145.0, rel=0.3)
    # All of the start whose whole was published.
    whole_s = start.initialise_s(28) + 3.42e9 / start.load_bytes_s
    assert whole_s == pytest.approx(59.0, rel=0.1)
    assert 4.9e9 < start.load_bytes_s < 7.1e9
