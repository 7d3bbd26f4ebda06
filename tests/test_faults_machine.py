"""What a machine does not give: folders that can be written, a clock that goes on, a folder of one's
own."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from faults import SETTINGS, broken, copied, films, launcher, left, new_cache, same, shown, straight, train
from launcher import Ended, Launcher

pytestmark = [
    pytest.mark.promise("faults"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked here"),
]

NOWHERE = {"HOME": "/proc/nobody", "LAC_CACHE": "", "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}


def fails(ended: Ended, *words: str) -> bool:
    """Whether a command has ended with one line that holds these words."""
    assert ended.code == 1, (ended.code, ended.out, ended.err)
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert "Traceback" not in ended.err
    return True


@contextmanager
def read_only(folder: Path):
    """Within it nobody can write to the folder, root neither."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("no folder can be made read-only: mount is not permitted")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


WRITES = {
    "find": ["clip0", "clip1"],
    "embed": [],
    "align": ["clip0", "clip1"],
    "retrieve": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITES)
def test_a_run_that_cannot_be_written(tmp_path, command):
    """Of a run that only others may write to a line says so; with --out elsewhere every command works."""
    run, cache = copied(tmp_path / "run"), straight()[1]
    with read_only(run):
        argv = [run, *WRITES[command], "--device", "cpu"]
        variables = {"LAC_CACHE": str(cache)}
        ended = launcher().run(command, *argv, variables=variables)
        assert fails(ended, "Read-only file system", str(run), "choose a folder that you may write to")
        ended = launcher().run(command, *argv, "--out", tmp_path / "out", variables=variables)
        assert ended.code == 0, ended.err
        assert broken(tmp_path / "out") == []


@pytest.mark.slow
def test_training_where_nothing_can_be_written(tmp_path):
    """Training in a folder that cannot be written, anew or with --resume, ends with a line; nothing is changed."""
    run, cache = copied(tmp_path / "run"), straight()[1]
    (run / "metrics.json").unlink()
    before = shown(run)
    with read_only(run):
        assert fails(train(run, cache), "Read-only file system", str(run))
        assert fails(train(run / "new", cache), "Read-only file system", str(run))
    assert shown(run) == before
    assert train(run, cache).code == 0
    assert same(run)


@pytest.mark.slow
def test_judging_a_run_that_cannot_be_written(tmp_path):
    """`lac-eval` of a run that only others may write to shows its table, and says that the page is not written."""
    run, cache = copied(tmp_path / "run"), straight()[1]
    with read_only(run):
        ended = launcher().run("eval", run, variables={"LAC_CACHE": str(cache)})
    assert ended.code == 0, ended.err
    assert "report.html is not written" in ended.out
    assert "trained encoder" in ended.out


@pytest.mark.slow
def test_training_without_a_home_or_a_cache(tmp_path):
    """Without a folder for a cache all works: features are computed each time, by the slower engine, and it is said."""
    run = tmp_path / "run"
    argv = ["--data", "folder", "--root", films(), "--out", run, *SETTINGS]
    ended = launcher().run("train", *argv, variables=NOWHERE)
    assert ended.code == 0, ended.err
    assert "features are not kept" in ended.err
    assert "set LAC_CACHE to a folder" in ended.err
    assert "using the slower eager engine" in ended.err
    assert "Traceback" not in ended.err
    assert broken(run) + left(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/proc/nobody", "/dev/null"])
def test_a_process_of_its_own_without_a_home(tmp_path, home):
    """A command of a user without a home folder that can be written works from its first line on."""
    run = copied(tmp_path / "run")
    environment = os.environ | NOWHERE | {"HOME": home, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    videos = [str(films() / "videos" / f"clip{k}.mp4") for k in (0, 1)]
    command = [sys.executable, "-m", "lac.cli.align", str(run), *videos, "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert broken(tmp_path / "out") == []


# The clock

YEAR = 365 * 86400


@pytest.mark.slow
@pytest.mark.parametrize("off", [-YEAR, YEAR, 7200])
def test_a_clock_that_jumps(tmp_path, off):
    """A clock that jumps by hours or years, forth or back, changes nothing in a run."""
    rng = random.Random(off)
    run, cache = tmp_path / "run", new_cache(tmp_path / "cache")
    ended = train(run, cache, act="KILL", at=rng.randrange(1, len(straight()[2].events)))
    ended = train(run, cache, act="clock", patch=off, at=rng.randrange(1, 100))
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert same(run)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 1 << 32])
def test_files_of_another_time(tmp_path, moment):
    """Files that seem to be of 1970 or of the next century are used like any others; nothing is computed again."""
    run, cache = copied(tmp_path / "run"), Path(shutil.copytree(straight()[1], tmp_path / "cache"))
    (run / "metrics.json").unlink()
    young = run / ".metrics.abcdefgh.json"  # of a process that was killed
    young.touch()
    for path in [*run.rglob("*"), *cache.rglob("*")]:
        os.utime(path, (moment, moment))
    ended = train(run, cache)
    assert ended.code == 0, ended.err
    assert "computed once" not in ended.err
    assert young.exists() == (moment > time.time())
    young.unlink(missing_ok=True)
    assert same(run)


# Two at once


@pytest.mark.slow
def test_two_trainers_at_once(tmp_path, record_property):
    """Of two trainers that begin in one folder at once one is told so in a line, and the other is not disturbed."""
    (tmp_path / "second").mkdir()
    second = Launcher(tmp_path / "second")
    with ExitStack() as stack:
        stack.callback(second.close)
        launcher().run("doctor")
        for k in range(6):
            run, cache = tmp_path / f"run{k}", new_cache(tmp_path / f"cache{k}")
            ended: list[Ended] = []
            argv = ["--data", "folder", "--root", films(), "--out", run, *SETTINGS]

            def work(one: Launcher, argv=argv, cache=cache, ended=ended) -> None:
                ended.append(one.run("train", *argv, variables={"LAC_CACHE": str(cache)}))

            both = [threading.Thread(target=work, args=(one,)) for one in (launcher(), second)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            well, other = sorted(ended, key=lambda one: one.code)
            assert well.code == 0, well.err
            assert other.code == 1
            (line,) = other.errors
            assert "is at work in this folder; wait for it" in line or "is not an empty folder; go on" in line
            assert same(run)
    record_property("cases", 6)


@pytest.mark.slow
def test_the_lock_of_a_killed_trainer_does_not_stay(tmp_path):
    """The lock of a trainer that was killed is gone with it."""
    run, cache = tmp_path / "run", new_cache(tmp_path / "cache")
    at = next(k for k, (_, path) in enumerate(straight()[2].events, 1) if "tfevents" in path)
    assert train(run, cache, act="KILL", at=at).code == -signal.SIGKILL
    assert (run / ".lock").read_text()
    assert train(run, cache).code == 0
    assert same(run)
