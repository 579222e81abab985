"""Keys: what a secret looks like, and what creating, revoking and rotating do to it."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.domain.errors import Conflict, NotFound
from underlay.domain.keys import Limits
from underlay.live import keyring
from underlay.live.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "data") as opened:
        yield opened


def test_a_minted_secret_has_our_shape_and_is_never_minted_twice():
    secrets = {keyring.mint() for _ in range(500)}
    assert len(secrets) == 500
    assert all(keyring.well_formed(secret) for secret in secrets)
    assert all(secret.startswith("ul_") and len(secret) == 52 and secret.isascii() for secret in secrets)


@given(st.text())
def test_no_other_text_is_well_formed(text):
    assert not keyring.well_formed(text)


@given(st.integers(3, 51), st.sampled_from(keyring.ALPHABET))
def test_one_wrong_character_is_noticed_without_a_lookup(place, other):
    secret = keyring.mint()
    typo = secret[:place] + other + secret[place + 1 :]
    assert keyring.well_formed(typo) == (typo == secret)


@given(st.integers(3, 50))
def test_two_exchanged_characters_are_noticed(place):
    secret = keyring.mint()
    typo = secret[:place] + secret[place + 1] + secret[place] + secret[place + 2 :]
    assert keyring.well_formed(typo) == (typo == secret)


@pytest.mark.parametrize("change", [str.upper, str.lower, lambda s: s + "\n", lambda s: " " + s, lambda s: s[:-1]])
def test_a_secret_that_was_mangled_on_its_way_is_refused(change):
    secret = keyring.mint()
    assert not keyring.well_formed(change(secret))


@given(st.text())
def test_a_digest_is_sixty_four_hexadecimal_digits_of_anything(text):
    assert len(keyring.digest(text)) == 64
    assert keyring.digest("\ud800") != keyring.digest("?")


def test_the_store_never_sees_a_secret(store, tmp_path):
    minted = keyring.create(store, tenant="acme", name="app", at_s=100.0)
    assert minted.key.prefix == minted.secret[:8]
    store.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert minted.key.digest.encode() in written
    assert minted.secret[8:].encode() not in written


def test_a_key_comes_back_as_it_was_created(store):
    limits = Limits(requests_per_minute=60, concurrent=2)
    minted = keyring.create(
        store, tenant="acme", name="app", models=["a", "b"], limits=limits, at_s=100.0, expires_s=200.0
    )
    assert store.key(minted.key.id) == minted.key == store.key_of_digest(keyring.digest(minted.secret))
    assert minted.key.models == ("a", "b")
    assert minted.key.limits == limits
    assert [keyring.state(minted.key, at_s) for at_s in (100.0, 199.9, 200.0)] == ["live", "live", "expired"]


def test_the_first_revocation_counts(store):
    key = keyring.create(store, tenant="acme", at_s=100.0).key
    assert keyring.revoke(store, key.id, 150.0).revoked_s == 150.0
    assert keyring.revoke(store, key.id, 180.0).revoked_s == 150.0
    assert keyring.state(store.key(key.id), 150.0) == "revoked"


def test_rotation_gives_a_like_key_and_lets_the_old_one_end(store):
    old = keyring.create(
        store, tenant="acme", name="app", models=["a"], limits=Limits(concurrent=3), at_s=100.0, expires_s=1100.0
    )
    new = keyring.rotate(store, old.key.id, overlap_s=60.0, at_s=200.0)
    ended = store.key(old.key.id)
    assert new.secret != old.secret
    assert (new.key.tenant, new.key.name, new.key.models, new.key.limits) == (
        "acme",
        "app",
        ("a",),
        Limits(concurrent=3),
    )
    assert new.key.expires_s == 1200.0
    assert ended.replaced_by == new.key.id
    assert [keyring.state(ended, at_s) for at_s in (259.9, 260.0)] == ["live", "expired"]


def test_rotation_never_lengthens_a_life(store):
    old = keyring.create(store, tenant="acme", at_s=100.0, expires_s=210.0).key
    keyring.rotate(store, old.id, overlap_s=60.0, at_s=200.0)
    assert store.key(old.id).expires_s == 210.0


def test_what_has_ended_or_was_rotated_is_not_rotated_again(store):
    old = keyring.create(store, tenant="acme", at_s=100.0).key
    keyring.rotate(store, old.id, overlap_s=60.0, at_s=200.0)
    with pytest.raises(Conflict, match="already rotated"):
        keyring.rotate(store, old.id, overlap_s=60.0, at_s=201.0)
    with pytest.raises(Conflict, match="is expired"):
        keyring.rotate(store, old.id, overlap_s=60.0, at_s=261.0)
    with pytest.raises(NotFound):
        keyring.rotate(store, "key_none", overlap_s=60.0, at_s=261.0)
    assert len(store.keys()) == 2


def test_a_person_may_say_id_name_or_beginning(store):
    app = keyring.create(store, tenant="acme", name="app", at_s=100.0)
    twins = [keyring.create(store, tenant="acme", name="twin", at_s=100.0).key for _ in range(2)]
    for called in (app.key.id, "app", app.key.id[:10], app.secret[:8], app.secret):
        assert keyring.find(store, called, 100.0).id == app.key.id
    with pytest.raises(NotFound):
        keyring.find(store, "nobody", 100.0)
    with pytest.raises(Conflict, match="could be any of"):
        keyring.find(store, "twin", 100.0)
    keyring.revoke(store, twins[0].id, 110.0)
    assert keyring.find(store, "twin", 120.0).id == twins[1].id


def test_the_local_key_is_made_once_and_kept_private(store, tmp_path):
    data_dir = tmp_path / "data"
    secret = keyring.local_secret(store, data_dir, 100.0)
    assert keyring.local_secret(store, data_dir, 200.0) == secret
    assert stat.S_IMODE((data_dir / "local.key").stat().st_mode) == 0o600
    assert keyring.is_local(data_dir, secret)
    assert not keyring.is_local(data_dir, keyring.mint())
    assert [(key.name, key.tenant) for key in list(store.keys())] == [("local", "local")]


def test_a_local_key_that_is_gone_or_revoked_is_made_anew(store, tmp_path):
    data_dir = tmp_path / "data"
    secrets = [keyring.local_secret(store, data_dir, 100.0)]
    keyring.revoke(store, store.keys()[-1].id, 110.0)
    secrets.append(keyring.local_secret(store, data_dir, 120.0))
    (data_dir / "local.key").write_text("ul_damaged")
    assert not keyring.is_local(data_dir, "ul_damaged")
    secrets.append(keyring.local_secret(store, data_dir, 130.0))
    (data_dir / "local.key").unlink()
    secrets.append(keyring.local_secret(store, data_dir, 140.0))
    assert len(set(secrets)) == 4
