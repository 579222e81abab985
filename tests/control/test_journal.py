"""The diary can be read back, whole or torn; where it is damaged it says so."""

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import key, quick, settings

from underlay.control import effects, events, journal
from underlay.control.journal import Entry, Header, JournalError, decode, encode
from underlay.domain.answer import Timings, Usage
from underlay.domain.keys import Key, Limits
from underlay.domain.policy import DeskSettings

HEADER = Header(journal.FORMAT, "0.1.0", 1.5, settings())

counts = st.integers(0, 2**40)
digests = st.integers(0, 2**64 - 1)
usages = st.builds(Usage, counts, counts, counts)
times = st.floats(allow_nan=False, allow_infinity=False)


BY_TYPE = {
    int: counts,
    int | None: st.none() | counts,
    tuple[int, ...]: st.lists(digests, max_size=9).map(tuple),
    float: times,
    tuple[float, ...]: st.lists(times, max_size=9).map(tuple),
    dict[str, float]: st.dictionaries(st.text(max_size=9), times, max_size=3),
    float | None: st.none() | times,
    Usage: usages,
    Timings: st.builds(Timings, times, times),
    Key: st.builds(key, st.text(max_size=9), limits=st.builds(Limits, st.none() | counts)),
    DeskSettings: st.builds(settings, wait_max_s=times),
}


def records(union):
    """Any record of a union, with any values in its fields."""
    return st.one_of(*[st.builds(kind, **fields(kind)) for kind in get_args(union)])


def fields(kind):
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name in kind.__struct_fields__}
    return {name: BY_TYPE[hint] if hint in BY_TYPE else st.from_type(hint) for name, hint in hints.items()}


entries = st.builds(Entry, records(events.AnyEvent), st.lists(records(effects.AnyEffect), max_size=3))
SAMPLE = [
    Entry(events.ReplicaSeen(1.0, "r1", "gemma", 2), []),
    Entry(events.KeyChanged(1.1, key("ann")), [effects.WakeAt(9.0)]),
    Entry(
        events.ClientGone(1.2, "t1", Usage(3, 0, 4)),
        [effects.Charge("t1", "key_ann", "ann's", "gemma", Usage(3, 0, 4), 17, "client_gone")],
    ),
]


def written(these=SAMPLE):
    return b"".join([encode(HEADER), *map(encode, these)])


def ends(these=SAMPLE):
    """The offsets just behind the header and each entry."""
    return [len(written(these[:count])) for count in range(len(these) + 1)]


def read(data):
    header, found = decode(data)
    assert header == HEADER
    return [entry for entry, _ in found]


@quick
@given(st.lists(entries, max_size=5))
def test_what_was_written_is_what_is_read(these):
    header, found = decode(written(these))
    found = list(found)
    assert header == HEADER
    assert [entry for entry, _ in found] == these
    assert [end for _, end in found] == ends(these)[1:]


def test_a_torn_tail_at_any_byte_costs_only_the_entry_it_tore():
    data = written()
    for size in range(ends()[0], len(data) + 1):
        whole = sum(end <= size for end in ends()[1:])
        assert read(data[:size]) == SAMPLE[:whole]


def test_a_journal_torn_within_its_header_is_none():
    for size in range(ends()[0]):
        with pytest.raises(JournalError, match="not a journal: it does not begin with a header"):
            decode(written()[:size])


@pytest.mark.parametrize("zeros", [1, 11, 12, 4096])
def test_a_tail_of_zeros_is_a_torn_one(zeros):
    """After a power failure some file systems have made room for what they had not yet written."""
    assert read(written() + bytes(zeros)) == SAMPLE


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_noticed_wherever_more_follows(flip):
    for place in range(ends()[-2]):
        whole = bytearray(written())
        whole[place] ^= flip
        with pytest.raises(JournalError, match=r"damaged|not a journal"):
            read(bytes(whole))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_in_the_last_entry_never_makes_another_entry_of_it(flip):
    *_, last, size = ends()
    for place in range(last, size):
        whole = bytearray(written())
        whole[place] ^= flip
        try:
            assert read(bytes(whole)) == SAMPLE[:-1]
        except JournalError as error:
            assert f"the frame at byte {last} is damaged" in str(error)


def test_a_damaged_length_does_not_pass_for_a_torn_tail():
    """It would hide everything behind it, and a reader that mends torn tails would cut it off for good."""
    whole = bytearray(written())
    whole[ends()[0] + 2] = 0xFF  # claims sixteen megabytes
    with pytest.raises(JournalError, match=f"the frame at byte {ends()[0]} is damaged"):
        read(bytes(whole))


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" * 50, bytes(100), encode(SAMPLE[0])])
def test_other_files_are_no_journals(data):
    with pytest.raises(JournalError):
        decode(data)


def test_a_format_from_the_future_is_not_guessed_at():
    with pytest.raises(JournalError, match=r"journal format 99 is not known here \(this is format \d+\)"):
        decode(encode(Header(99, "9.0", 0.0, settings())))


def test_a_frame_that_is_no_entry_is_named_by_its_place():
    data = written(SAMPLE[:1]) + encode(HEADER) + encode(SAMPLE[1])
    with pytest.raises(JournalError, match=f"ends at byte {len(written(SAMPLE[:1]) + encode(HEADER))} cannot be"):
        read(data)
