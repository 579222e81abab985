import numpy as np
import pytest

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.lengths import Recorded, Separate
from underlay.twin.crowd.spreads import Fixed, Gamma
from underlay.twin.crowd.trace_formats import TraceError


def test_prompts_and_answers_each_for_itself():
    prompts, outputs = Separate(prompt=Gamma(mean=500, cv=1), output=Fixed(0.2)).draw(
        5000, np.random.default_rng(1)
    )
    assert prompts.mean() == pytest.approx(500, rel=0.05)
    assert set(outputs.tolist()) == {1}


def test_recorded_pairs_stay_together(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n30,3\n")
    prompts, outputs = Recorded(str(path), prompt_scale=2.0).draw(300, np.random.default_rng(1))
    assert set(zip(prompts.tolist(), outputs.tolist(), strict=True)) == {(20, 1), (40, 2), (60, 3)}


def test_a_file_that_is_changed_is_read_again(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n10,1\n")
    recorded = Recorded(str(path))
    assert recorded.draw(1, np.random.default_rng(1))[0].tolist() == [10]
    path.write_text("num_prefill_tokens,num_decode_tokens\n11,1\n")
    assert recorded.draw(1, np.random.default_rng(1))[0].tolist() == [11]


def test_shipped_lengths_are_what_they_were():
    prompts, outputs = Recorded("sharegpt").draw(20_000, np.random.default_rng(1))
    assert (prompts.mean(), outputs.mean()) == pytest.approx((245.8, 325.6), rel=0.04)


def test_what_is_wrong_is_found_before_a_run(tmp_path):
    with pytest.raises(BadRequest, match="did you mean 'sharegpt'"):
        Recorded("sharegtp").check()
    path = tmp_path / "pairs.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n10,\n")
    with pytest.raises(TraceError, match=r"pairs.csv:2:4: num_decode_tokens is ''"):
        Recorded(str(path)).check()
    with pytest.raises(ValueError, match="scales"):
        Recorded("sharegpt", output_scale=0)
