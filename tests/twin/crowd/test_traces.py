from collections import Counter
from random import Random

import numpy as np
import pytest

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.tenants import Region, Tenant
from underlay.twin.crowd.trace_formats import TraceError
from underlay.twin.crowd.traces import Trace


def made(seed=1, **options):
    return list(Trace(**{"trace": "azure-2023-conv", **options}).calls(Random(seed)))


@pytest.fixture
def mine(tmp_path):
    def write(lines, header="arrived_s,prompt_tokens,output_tokens"):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return str(path)

    return write


def prefix_hits(calls, link_tokens=512):
    """The part of all prompt tokens that a cache without bounds finds again."""
    seen, hits = set(), 0
    for call in calls:
        for link in call.links:
            if link not in seen:
                break
            hits += link_tokens
        seen.update(call.links)
    return hits / sum(call.prompt_tokens for call in calls)


@pytest.mark.parametrize(
    ("trace", "count", "prompt", "output", "cv"),
    [("azure-2023-conv", 19_366, 1155, 211, 1.1), ("azure-2023-code", 8819, 2048, 28, 13.2)],
)
def test_the_shipped_traces_are_as_published(trace, count, prompt, output, cv):
    calls = made(trace=trace)
    gaps = np.diff([call.at for call in calls])
    assert len(calls) == count
    assert np.mean([call.prompt_tokens for call in calls]) == pytest.approx(prompt, rel=0.001)
    assert np.mean([call.output_tokens for call in calls]) == pytest.approx(output, rel=0.01)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.01)


def test_mooncakes_prefixes_are_found_again_as_published():
    calls = made(trace="mooncake-conversation")
    assert prefix_hits(calls) == pytest.approx(0.3734, abs=0.0001)
    assert all(0 <= link < 2**63 for call in calls for link in call.links)
    assert all(len(call.links) == call.prompt_tokens // 512 for call in calls)
    finer = made(trace="mooncake-conversation", link_tokens=128, stop_s=300)
    assert prefix_hits(finer, 128) == pytest.approx(prefix_hits(made(trace="mooncake-conversation", stop_s=300)))


def test_tenants_share_no_prefixes():
    tenants = (Tenant("a", count=4),)
    shared, apart = (prefix_hits(made(trace="mooncake-conversation", tenants=some)) for some in ((), tenants))
    assert 0.05 < apart < shared - 0.05


def test_time_may_pass_quicker():
    plain, quicker = made(), made(speed=4.0, at_s=100.0)
    assert [call.at for call in quicker] == pytest.approx([100.0 + call.at / 4 for call in plain])


def test_a_mean_rate_comes_out():
    calls = made(mean_rate_per_s=40.0, share=0.5)
    assert len(calls) / calls[-1].at == pytest.approx(40.0, rel=0.03)


def test_a_share_is_made_and_conversations_whole(mine):
    assert len(made(share=0.25)) == pytest.approx(19_366 / 4, rel=0.05)
    path = mine([f"{n},10,5,{n % 50 + 1}" for n in range(500)], "arrived_s,prompt_tokens,output_tokens,session")
    found = Counter(call.session for call in made(trace=path, share=0.5, tenants=(Tenant("a", count=3),)))
    assert set(found.values()) == {10}
    assert 10 <= len(found) <= 40


def test_a_window_is_cut_out():
    calls = made(start_s=600.0, stop_s=1200.0)
    inside = [call for call in made() if 600.0 <= call.at < 1200.0]
    assert [call.at for call in calls] == pytest.approx([call.at - 600.0 for call in inside])


def test_it_is_repeated_with_other_prompts():
    whole = Trace("mooncake-conversation", stop_s=120.0, repeat=3)
    calls = list(whole.calls(Random(1)))
    first = calls[: len(calls) // 3]
    assert [call.at for call in calls] == pytest.approx(
        [call.at + lap * 120.0 for lap in range(3) for call in first]
    )
    assert prefix_hits(calls) == pytest.approx(prefix_hits(first))
    assert whole.rate_per_s(60.0) == pytest.approx(whole.rate_per_s(300.0))
    assert whole.rate_per_s(361.0) == 0.0


def test_a_whole_trace_is_followed_by_a_gap_like_its_others(mine):
    calls = made(trace=mine(["0,1,1", "10,1,1", "20,1,1"]), repeat=2)
    assert [call.at for call in calls] == [0, 10, 20, 30, 40, 50]


def test_tokens_may_be_scaled():
    plain, scaled = (
        made(trace="mooncake-conversation", stop_s=60),
        made(trace="mooncake-conversation", stop_s=60, prompt_scale=0.5),
    )
    assert [call.prompt_tokens for call in scaled] == [round(call.prompt_tokens * 0.5) for call in plain]
    assert all(
        one.links == other.links[: one.prompt_tokens // 512] for one, other in zip(scaled, plain, strict=True)
    )


def test_calls_are_shared_among_tenants_and_regions_by_lot():
    calls = made(
        tenants=(Tenant("a", weight=3, band="batch", deadline_s=5.0), Tenant("b", model="big")),
        regions=(Region("eu"), Region("us", weight=4)),
        model="m",
    )
    assert Counter(call.tenant for call in calls)["a"] == pytest.approx(0.75 * 19_366, rel=0.03)
    assert Counter(call.region for call in calls)["us"] == pytest.approx(0.8 * 19_366, rel=0.03)
    assert {(call.tenant, call.band, call.model, call.deadline_s) for call in calls} == {
        ("a", "batch", "m", 5.0),
        ("b", "", "big", None),
    }


def test_what_the_trace_says_itself_stays(mine):
    path = mine(
        ["1,10,5,ann,7,eu,big,batch", "2,10,5,bob,8,,,"],
        "arrived_s,prompt_tokens,output_tokens,tenant,session,region,model,band",
    )
    crowd = Trace(path, regions=(Region("us"), Region("eu")), model="m")
    crowd.check()
    ann, bob = crowd.calls(Random(1))
    assert (ann.at, ann.tenant, ann.session, ann.region, ann.model, ann.band) == (
        1.0,
        "ann",
        7,
        "eu",
        "big",
        "batch",
    )
    assert (bob.tenant, bob.model) == ("bob", "m")
    assert crowd.tenant_bands() == {"ann": "batch", "bob": ""}
    assert crowd.models() == ("big",)
    with pytest.raises(TraceError, match="has calls from 'eu'; expected us"):
        Trace(path, regions=(Region("us"),)).check()


def test_equal_dice_give_equal_calls():
    options = {"share": 0.3, "tenants": (Tenant("a", count=5),), "stop_s": 600.0}
    told = [[(call.at, call.tenant) for call in made(seed, **options)] for seed in (1, 1, 2)]
    assert told[0] == told[1] != told[2]


def test_rates_are_those_of_its_minutes():
    crowd = Trace("azure-2023-conv", speed=2.0)
    calls = [call.at for call in crowd.calls(Random(1))]
    around = [sum(abs(at - middle) < 30 for at in calls) / 60 for middle in (300.0, 1000.0)]
    assert [crowd.rate_per_s(middle) for middle in (300.0, 1000.0)] == pytest.approx(around, rel=0.03)
    assert np.mean([crowd.rate_per_s(at) for at in np.arange(0, 1751, 10.0)]) == pytest.approx(11.06, rel=0.02)
    assert crowd.rate_per_s(1760.0) == 0.0


def test_typical_calls_are_its_own():
    calls = Trace("azure-2023-conv", output_scale=2.0).sample(4000, Random(1))
    assert np.mean([call.output_tokens for call in calls]) == pytest.approx(422, rel=0.06)
    assert Trace("azure-2023-conv", start_s=9000.0).sample(5, Random(1)) == []


def test_a_broken_line_is_found_before_the_run_and_when_it_is_met(mine):
    crowd = Trace(mine(["1,10,5", "2,ten,5"]))
    with pytest.raises(TraceError, match=r"mine.csv:3:3: prompt_tokens is 'ten'"):
        crowd.check()
    calls = crowd.calls(Random(1))
    assert next(calls).at == 1.0
    with pytest.raises(TraceError):
        next(calls)


def test_a_window_without_calls_is_found_before_the_run():
    with pytest.raises(BadRequest, match=r"no calls from 9000 to inf s; its last is at 3501.72 s"):
        Trace("azure-2023-conv", start_s=9000.0).check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0.0},
        {"speed": 1.0, "mean_rate_per_s": 1.0},
        {"mean_rate_per_s": 0.0},
        {"share": 0.0},
        {"start_s": 5.0, "stop_s": 5.0},
        {"at_s": -1.0},
        {"repeat": 0},
        {"prompt_scale": 0.0},
        {"link_tokens": 100},
        {"tenants": (Tenant("a", prefix_tokens=5),)},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r".+\."):
        Trace("azure-2023-conv", **wrong)
