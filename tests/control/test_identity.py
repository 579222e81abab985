"""Who is asking: one valid key among whatever credentials came along."""

import pytest
from tests.control.builders import NOW_S, digest_of, key

from underlay.control.identity import identify, permit
from underlay.domain.errors import Forbidden, Unauthenticated


def known(*keys):
    return {each.digest: each for each in keys}


def digests(*names):
    return tuple(digest_of(name) for name in names)


def test_the_key_behind_a_credential_is_found():
    ann, bob = key("ann"), key("bob")
    assert identify(known(ann, bob), digests("bob"), NOW_S) is bob


@pytest.mark.parametrize("offered", [("dummy", "ann"), ("ann", "dummy"), ("x", "ann", "y")])
def test_a_dummy_beside_the_real_one_does_no_harm(offered):
    """SDKs insist on an api_key, so callers send a made-up one beside the header that counts."""
    ann = key("ann")
    assert identify(known(ann), digests(*offered), NOW_S) is ann


def test_a_dead_key_beside_a_live_one_does_no_harm():
    ann, old = key("ann"), key("old", revoked_s=1.0)
    assert identify(known(ann, old), digests("old", "ann"), NOW_S) is ann


def test_two_valid_keys_are_refused_because_we_do_not_choose_who_pays():
    with pytest.raises(Unauthenticated, match="two different valid keys were sent; send one"):
        identify(known(key("ann"), key("bob")), digests("ann", "bob"), NOW_S)


@pytest.mark.parametrize("offered", [(), ("stranger",), ("stranger", "other")])
def test_no_known_key_is_told_where_to_send_one(offered):
    with pytest.raises(Unauthenticated, match="no valid API key was sent; send it as 'Authorization: Bearer"):
        identify(known(key("ann")), digests(*offered), NOW_S)


@pytest.mark.parametrize(("field", "says"), [("expires_s", "has expired"), ("revoked_s", "was revoked")])
def test_a_key_ends_at_its_second_and_not_before(field, says):
    """I15: exactly at its second it is refused already."""
    ann = key("ann", **{field: NOW_S})
    assert identify(known(ann), digests("ann"), NOW_S - 1e-6) is ann
    for at in (NOW_S, NOW_S + 1e-6, NOW_S + 1e9):
        with pytest.raises(Unauthenticated, match=f"this key {says}; make or rotate one"):
            identify(known(ann), digests("ann"), at)


def test_revoked_is_said_before_expired():
    ann = key("ann", expires_s=1.0, revoked_s=2.0)
    with pytest.raises(Unauthenticated, match="was revoked"):
        identify(known(ann), digests("ann"), NOW_S)


def test_a_table_that_lies_about_a_digest_opens_nothing():
    with pytest.raises(Unauthenticated):
        identify({digest_of("ann"): key("bob")}, digests("ann"), NOW_S)


def test_the_secret_never_comes_this_far():
    with pytest.raises(Unauthenticated) as refused:
        identify({}, ("5ecre7",), NOW_S)
    assert "5ecre7" not in refused.value.message


def test_a_key_without_a_list_of_models_may_use_all():
    permit(key("ann"), "anything")


def test_a_key_with_a_list_may_use_those_only():
    ann = key("ann", models=("gemma", "embedder"))
    permit(ann, "embedder")
    with pytest.raises(Forbidden, match="may not use model 'llama'; it may use: gemma, embedder") as refused:
        permit(ann, "llama")
    assert refused.value.param == "model"
