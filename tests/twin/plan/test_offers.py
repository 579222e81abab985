import pytest
from tests.twin.plan.builders import demand, question

from underlay.domain.errors import BadRequest, NotFound
from underlay.twin.plan.offers import context_tokens, offers


def names(found):
    return [offer.name for offer in found]


def test_everything_with_a_price_and_a_profile_is_an_offer_and_the_rest_has_a_reason():
    found, left = offers(question(accelerators=(), precisions=(), parallelisms=()))
    assert {"h100-sxm tp1 bf16", "h100-sxm tp1 fp8", "h100-sxm tp2 bf16", "l40s tp1 fp8"} <= set(names(found))
    assert all(offer.profile.method != "assumed" for offer in found)
    why = dict(left)
    assert why["rtx-4090"].startswith("no list price")
    assert "gb200" in why
    assert "mi300x" not in " ".join(names(found))  # nobody timed it


def test_reckoned_step_times_are_taken_on_request():
    found, _ = offers(question(accelerators=(), parallelisms=(), assumed_profiles=True))
    assert any(offer.accelerator == "mi300x" and offer.profile.method == "assumed" for offer in found)
    named, _ = offers(question(accelerators=("mi300x",), parallelisms=()))
    assert {offer.accelerator for offer in named} == {"mi300x"}


def test_what_does_not_fit_says_why():
    asked = question(model="llama-3.1-70b", parallelisms=("tp1", "tp2", "tp4"), precisions=("bf16",))
    found, left = offers(asked)
    assert names(found) == ["h100-sxm tp4 bf16"]
    assert "does not fit" in dict(left)["h100-sxm tp1 bf16"]
    assert "KV cache holds" in dict(left)["h100-sxm tp2 bf16"]
    _, odd = offers(question(parallelisms=("tp2",), server_accelerators=3))
    assert "do not go evenly into a server of 3" in dict(odd)["h100-sxm tp2 bf16"]


def test_prices_are_dated_or_given():
    (found,), _ = offers(question())
    assert (found.price.method, found.price.least_usd < found.price.usd < found.price.most_usd) == (
        "modelled",
        True,
    )
    assert "2026" in found.price.note
    (given,), _ = offers(question(usd_per_hour={"h100-sxm": 2.0}))
    assert given.price[:4] == (2.0, 2.0, 2.0, "measured")
    priced, _ = offers(question(accelerators=("gb200",), usd_per_hour={"gb200": 9.0}))
    assert names(priced) == ["gb200 tp1 bf16"]


def test_the_context_is_that_of_the_longest_request():
    assert context_tokens(question(demand=demand(lengths=((1000.0, 0.0), (100.0, 0.0))))) == 2048
    with pytest.raises(BadRequest, match="raise it, or cut the lengths"):
        context_tokens(question(context_tokens=500))


def test_unknown_names_say_what_was_perhaps_meant():
    with pytest.raises(NotFound, match="did you mean llama"):
        offers(question(model="lama-3.1-8b"))
    with pytest.raises(NotFound, match="did you mean h100-sxm"):
        offers(question(accelerators=("h100-sx",)))
    with pytest.raises(NotFound, match="did you mean h100-sxm"):
        offers(question(available={"h100-sx": 3}))
    with pytest.raises(BadRequest, match="is no precision"):
        offers(question(precisions=("bf61",)))
    with pytest.raises(BadRequest, match="is no parallelism"):
        offers(question(parallelisms=("2",)))
