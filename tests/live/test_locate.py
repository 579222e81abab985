"""Finding a platform that runs: by its run file, if its process lives."""

import os
import stat
import subprocess
import sys

import pytest

from underlay.live import locate
from underlay.live.locate import AlreadyRunning, RunFile


def running(pid=None, ticks=None):
    mine = RunFile.of_this_process("http://127.0.0.1:1", "http://127.0.0.1:2", "0.1", 100.0)
    return mine._replace(pid=pid or mine.pid, pid_ticks=mine.pid_ticks if ticks is None else ticks)


def test_a_living_platform_is_found(tmp_path):
    data_dir = tmp_path / "data"
    assert locate.find(data_dir) is None
    locate.write(data_dir, running())
    assert locate.find(data_dir) == running()
    assert stat.S_IMODE((data_dir / "run.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert [path.name for path in data_dir.iterdir()] == ["run.json"]
    locate.remove(data_dir)
    assert locate.find(data_dir) is None


def test_a_dead_process_and_one_that_took_its_number_are_not_found(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks = locate.process_ticks(child.pid)
        locate.write(tmp_path, running(child.pid, ticks))
        assert locate.find(tmp_path) is not None
        locate.write(tmp_path, running(child.pid, ticks + 1))
        assert locate.find(tmp_path) is None
        locate.write(tmp_path, running(child.pid, 0))
        assert locate.find(tmp_path) is not None
        child.stdin.close()
        child.wait()
        assert locate.find(tmp_path) is None
        locate.write(tmp_path, running(child.pid, ticks))
        assert locate.find(tmp_path) is None
        locate.remove(tmp_path)  # another's, so it stays
        assert (tmp_path / "run.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00"])
def test_a_damaged_run_file_is_no_platform(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert locate.find(tmp_path) is None


HOLDING = """
import sys
from pathlib import Path
from underlay.live import locate
try:
    with locate.hold(Path(sys.argv[1])):
        print("held", flush=True)
        input()
except locate.AlreadyRunning as refused:
    print(refused.pid)
"""


def holder(data_dir):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_one_process_holds_a_data_directory(tmp_path):
    with locate.hold(tmp_path), locate.hold(tmp_path), holder(tmp_path) as other:
        assert other.communicate()[0] == f"{os.getpid()}\n"
    with holder(tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning) as caught, locate.hold(tmp_path):
            pass
        assert str(caught.value) == f"{tmp_path} is in use by process {other.pid}"
        other.kill()
    with locate.hold(tmp_path):
        pass


def test_nothing_heavy_is_imported_on_the_way():
    heavy = "{'pydantic', 'msgspec', 'yaml', 'asyncio', 'sqlite3', 'rich', 'http.client'}"
    code = f"import sys; import underlay.live.locate; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
