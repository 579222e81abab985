from collections import Counter

import numpy as np
import pytest

from underlay.twin.crowd.tenants import Mix, Region, Tenant, bands, distinct, shares


def test_tenants_are_drawn_by_weight():
    mix = Mix((Tenant("greedy", weight=9), Tenant("ann", band="interactive"), Tenant("bob", weight=2)), "m", 512)
    found = Counter(caller.tenant for caller in mix.draw(24_000, np.random.default_rng(1)))
    assert [found[name] for name in ("greedy", "ann", "bob")] == pytest.approx([18_000, 2000, 4000], rel=0.07)
    assert [mix.at(lot).tenant for lot in (0.0, 0.74, 0.76, 0.84, 1.0)] == ["greedy", "greedy", "ann", "bob", "bob"]


def test_one_entry_may_stand_for_many_of_skewed_weight():
    mix = Mix((Tenant("app", count=3, skew=1.0), Tenant("other")), "m", 512)
    assert [caller.tenant for caller in mix.callers] == ["app-1", "app-2", "app-3", "other"]
    found = Counter(caller.tenant for caller in mix.draw(22_000, np.random.default_rng(1)))
    assert [found[f"app-{number}"] for number in (1, 2, 3)] == pytest.approx([6000, 3000, 2000], rel=0.07)


def test_without_tenants_it_is_nobody_in_particular():
    assert [caller.tenant for caller in Mix((), "m", 512).draw(2, np.random.default_rng(1))] == ["", ""]
    assert bands(()) == {"": ""}


def test_each_has_its_band_model_and_prefix():
    ann, bob = Mix((Tenant("ann", model="big", prefix_tokens=1100), Tenant("bob", band="batch")), "m", 512).callers
    assert (ann.model, bob.model, len(ann.links), bob.links) == ("big", "m", 2, ())
    assert bands((Tenant("ann"), Tenant("bob", band="batch", count=2))) == {
        "ann": "",
        "bob-1": "batch",
        "bob-2": "batch",
    }


def test_names_are_given_once():
    with pytest.raises(ValueError, match="same name"):
        distinct((Tenant("a", count=2), Tenant("a-2")))


def test_regions_share_by_weight():
    assert shares((Region("eu", weight=3), Region("us"))) == [0.75, 0.25]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tenant("a", weight=0),
        lambda: Tenant("a", count=0),
        lambda: Tenant("a", deadline_s=0),
        lambda: Tenant("a", prefix_tokens=-1),
        lambda: Region("a", utc_offset_h=15),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r".+\."):
        make()
