"""A disk that is full at any moment: a line says so, nothing is half-written, and all goes on when there is room."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import broken, copied, launcher, left, new_cache, same, straight, train
from launcher import BALLAST, Ended

pytestmark = [
    pytest.mark.promise("faults"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked here"),
]


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be made: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def told(ended: Ended, *folders: Path) -> bool:
    """Whether a command has ended with one line that says of a file in these folders that there is no room."""
    assert ended.code == 1, (ended.code, ended.out, ended.err)
    (line,) = ended.errors
    assert line.startswith("error: No space left on device"), ended.err
    assert any(str(folder) in line for folder in folders), line
    assert "Traceback" not in ended.err
    return True


@pytest.mark.slow
@pytest.mark.parametrize("times", [16])
def test_a_full_disk_stops_a_training_that_goes_on_when_there_is_room(disk, times, record_property):
    """A full disk ends a training with a line; the checkpoint stays, and it goes on when there is room."""
    rng, count = random.Random(times), len(straight()[2].events)
    for k in range(times):
        run, cache = disk / f"run{k}", new_cache(disk / f"cache{k}")
        ended = train(run, cache, watch=[disk], act="fill", at=rng.randrange(1, count))
        assert ended.code == 0 or told(ended, run, cache)
        assert left(run) + left(cache) + broken(run) == []
        (disk / BALLAST).unlink()
        ended = train(run, cache)
        assert ended.code == 0, ended.err
        assert same(run)
        shutil.rmtree(run)
        shutil.rmtree(cache)
    record_property("cases", times)


COMMANDS = {
    "find": ["RUN", "clip0", "--chance", "1", "--cut", "--out", "OUT"],
    "embed": ["RUN", "--out", "OUT"],
    "align": ["RUN", "clip0", "clip3", "--chance", "1", "--video", "OUT/both.mp4", "--out", "OUT"],
    "align all": ["RUN", "--all", "clip0", "clip3", "clip5", "--out", "OUT"],
    "eval": ["RUN", "--out", "OUT"],
    "retrieve": ["RUN", "--out", "OUT"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_leaves_no_half_results(disk, tmp_path, name, record_property):
    """A full disk ends every command with a line, no file is half-written, and it works when there is room."""
    run, (_, cache, _) = copied(tmp_path / "run"), straight()
    command = name.split()[0]

    def called(out: Path, **more: object) -> Ended:
        argv = [part.replace("RUN", str(run)).replace("OUT", str(out)) for part in COMMANDS[name]]
        return launcher().run(command, *argv, watch=[disk], variables={"LAC_CACHE": str(cache)}, **more)

    whole = called(disk / "whole")
    assert whole.code == 0, whole.err
    files = {str(path.relative_to(disk / "whole")) for path in (disk / "whole").rglob("*")}
    assert broken(disk / "whole") == []
    shutil.rmtree(disk / "whole")
    last = len(whole.events)
    moments = sorted(random.Random(0).sample(range(1, last + 1), min(10, last)))
    for k, at in enumerate(moments):
        out = disk / f"out{k}"
        ended = called(out, act="fill", at=at)
        assert left(out) + broken(out) == []
        if command == "embed" and ended.code:  # half of a data set is one, too
            assert not out.exists() or list(out.iterdir()) == []
        (disk / BALLAST).unlink()
        if ended.code:
            assert told(ended, out)
            ended = called(out)
        assert ended.code == 0, ended.err
        assert {str(path.relative_to(out)) for path in out.rglob("*")} == files
        shutil.rmtree(out)
    record_property("cases", len(moments))
