"""The journal on disk: what was decided is booked once, however often the process was killed."""

import asyncio
import contextlib
import resource

import pytest
from structlog.testing import CapturingLogger

from underlay.control import journal
from underlay.control.desk import assemble
from underlay.control.effects import Charge
from underlay.control.events import Arrived, Finished, FirstToken, KeyChanged, Progress, ReplicaSeen
from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.money import Price
from underlay.domain.policy import DeskSettings, ModelPolicy
from underlay.live import journal_file
from underlay.live.store import Store
from underlay.live.store_writer import StoreWriter
from underlay.twin.replay import replay

KEY = Key(id="key_1", digest="d" * 64, tenant="acme", name="n", prefix="ul_", created_s=0.0)
SETTINGS = DeskSettings(models=(ModelPolicy("m", 4096, Price()),), default_limits=KEY.limits)


def arrived(ticket, at=3.0):
    return Arrived(at, ticket, (KEY.digest,), "m", "chat", 5, streaming=True)


EVENTS = [
    KeyChanged(1.0, KEY),
    ReplicaSeen(2.0, "r", "m", 4),
    *(arrived(f"req_{n}") for n in range(4)),
    *(FirstToken(4.0, f"req_{n}", 1, 10, 4) for n in range(4)),
    *(Progress(5.0, f"req_{n}", 32 + n) for n in range(4)),
    Finished(6.0, "req_0", 1, Usage(10, 4, 40)),
]


def write(data_dir, events=EVENTS, cut=0):
    """A segment as a run leaves it that was killed after these events, and in the middle of the last ``cut`` bytes."""
    folder = data_dir / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    desk = assemble(SETTINGS)
    frames = [journal.encode(journal.Header(journal.FORMAT, "test", 0.5, SETTINGS))]
    frames += [journal.encode(journal.Entry(event, desk.handle(event))) for event in events]
    path = folder / f"20200101T000000-{len(list(folder.iterdir()))}.journal"
    data = b"".join(frames)
    path.write_bytes(data[: len(data) - cut])
    return path


def settle(data_dir):
    with Store(data_dir) as store, contextlib.closing(StoreWriter(data_dir)) as writer:
        cut_off = journal_file.settle_old(data_dir, store, writer)
        assert writer.flush()
        rows = store.ledger(limit=100)
        return cut_off, {row.request_id: (row.outcome, row.usage) for row in rows}


async def test_what_a_killed_run_had_decided_is_booked_once_and_what_it_left_open_by_its_progress(tmp_path):
    path = write(tmp_path)
    cut_off, charges = settle(tmp_path)
    assert cut_off == 3
    assert charges == {
        "req_0": ("finished", Usage(10, 4, 40)),
        **{f"req_{n}": ("client_gone", Usage(10, 4, 32 + n)) for n in (1, 2, 3)},
    }
    assert settle(tmp_path) == (0, charges)
    report = replay(path)
    assert report.equal
    assert report.open_tickets == 0


@pytest.mark.parametrize("cut", range(1, 200, 29))
async def test_killed_in_the_middle_of_a_write(tmp_path, cut):
    path = write(tmp_path, cut=cut)
    cut_off, charges = settle(tmp_path)
    assert len(charges) == 4
    assert cut_off == 4  # the last frame said that one had finished: torn, it is open like the others
    assert settle(tmp_path) == (0, charges)
    assert replay(path).equal


async def test_killed_again_during_recovery(tmp_path):
    path = write(tmp_path)
    before = path.stat().st_size
    cut_off, charges = settle(tmp_path)
    whole = path.read_bytes()
    for size in range(before, len(whole), 41):  # the recovery had got this far, and the store had kept nothing
        again = tmp_path / str(size)
        write(again).write_bytes(whole[:size])
        cut_off, booked = settle(again)
        assert booked == charges
        assert cut_off <= 3
        assert replay(next((again / "journal").iterdir())).equal


@pytest.mark.parametrize(("behind", "cut_off"), [(0, 0), (1, 3)])
async def test_a_mark_spares_settling_only_what_it_covers(tmp_path, behind, cut_off):
    path = write(tmp_path)
    with Store(tmp_path) as store, contextlib.closing(StoreWriter(tmp_path)) as writer:
        writer.submit_mark(path.name, path.stat().st_size - behind)
        assert writer.flush()
        assert journal_file.settle_old(tmp_path, store, writer) == cut_off


@pytest.mark.parametrize("what", ["header", "middle", "garbage"])
async def test_a_damaged_segment_is_set_aside_and_does_not_keep_the_service_from_starting(tmp_path, what, capsys):
    path = write(tmp_path)
    good = write(tmp_path, [*EVENTS[:2], arrived("other"), Finished(6.0, "other", 1, Usage(1, 0, 1))])
    data = bytearray(path.read_bytes())
    if what == "middle":
        data[len(data) // 2] ^= 0xFF
    path.write_bytes({"header": data[:20], "middle": data, "garbage": b"\xff" * 100}[what])
    _, charges = settle(tmp_path)
    assert "other" in charges
    assert not path.exists()
    assert path.with_name(path.name + ".damaged").exists()
    assert good.exists()
    assert settle(tmp_path) == (0, charges)
    capsys.readouterr()


async def test_an_empty_segment_is_nothing(tmp_path):
    write(tmp_path).write_bytes(b"")
    assert settle(tmp_path) == (0, {})


def limited(size):
    """Let files of this process grow to ``size`` only: what a full disk looks like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    return before


async def test_a_full_disk_loses_nothing_once_there_is_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "_RETRY_S", 0.02)
    diary = journal_file.begin(tmp_path, SETTINGS, "test", 1000.0)
    desk = assemble(SETTINGS)
    before = limited(1000)
    try:
        for event in EVENTS:
            diary.append(event, desk.handle(event))
        diary.flush()
        assert diary.last_error
        assert diary.bytes_written == diary.path.stat().st_size == 1000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await asyncio.sleep(0.1)
    assert diary.last_error is None
    diary.close()
    report = replay(diary.path)
    assert report.equal
    assert report.events == len(EVENTS)


async def test_a_disk_that_stays_full_costs_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "_PENDING_MAX", 2000)
    diary = journal_file.begin(tmp_path, SETTINGS, "test", 1000.0)
    desk = assemble(SETTINGS)
    before = limited(diary.bytes_written)
    try:
        for event in EVENTS:
            diary.append(event, desk.handle(event))
            assert diary._pending_bytes <= 2000
        assert diary.broken_off
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    diary.close()
    assert replay(diary.path).equal  # what is there is a beginning without gaps


async def test_a_decision_that_cannot_be_made_again_keeps_neither_the_others_nor_the_start(tmp_path, monkeypatch):
    log = CapturingLogger()  # whatever other tests made of the process's logs
    monkeypatch.setattr(journal_file, "log", log)
    path = write(tmp_path)
    with path.open("ab") as segment:  # what a defect of the desk looks like to the replay
        segment.write(journal.encode(journal.Entry(arrived("req_1"), [])))
        last = Finished(7.0, "req_1", 1, Usage(10, 4, 50))
        charge = Charge("req_1", KEY.id, KEY.tenant, "m", last.usage, 0, "finished")
        segment.write(journal.encode(journal.Entry(last, [charge])))
    cut_off, charges = settle(tmp_path)
    assert cut_off == 2
    assert charges["req_1"] == ("finished", Usage(10, 4, 50))
    assert len(charges) == 4
    assert settle(tmp_path) == (0, charges)
    assert any("cannot be decided again" in call.args[0] for call in log.calls)


async def test_old_segments_are_removed_once_they_are_settled(tmp_path):
    for _ in range(25):
        write(tmp_path, EVENTS[:1])
    settle(tmp_path)
    assert len(list((tmp_path / "journal").iterdir())) == 25
    settle(tmp_path)
    assert len(list((tmp_path / "journal").iterdir())) == 20


async def test_a_new_segment_is_private_and_no_other_runs(tmp_path):
    paths = set()
    for _ in range(3):  # in the same second, by processes with the same id, as containers have them
        diary = journal_file.begin(tmp_path, SETTINGS, "test", 2e9)
        diary.close()
        paths.add(diary.path)
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}
    assert len(paths) == len(list((tmp_path / "journal").iterdir())) == 3
