"""Commands that are ended at any moment, by a kill or by a signal: nothing is lost and nothing half-written."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults import broken, left, new_cache, same, straight, train

from lac.runs import checkpoint

pytestmark = [
    pytest.mark.promise("faults"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked here"),
]


def moments(rng: random.Random, count: int) -> list[dict[str, object]]:
    """Random moments of a run, as many of each phase: at an event among its files, or at a time."""
    _, cache, ended = straight()
    parts: list[list[int]] = [[], [], [], [], []]
    for number, (_, path) in enumerate(ended.events, start=1):
        pictures, numbers, page = (word in path for word in ("/plots", "tfevents", "/.metrics"))
        features = path.startswith(str(cache))
        parts[[features, numbers, pictures, page or "/.report" in path, True].index(True)].append(number)
    assert all(parts)
    chosen: list[dict[str, object]] = []
    for k in range(count):
        part = k % (len(parts) + 1)
        at = {"at": rng.choice(parts[part])} if part < len(parts) else {"after": rng.uniform(0, ended.seconds)}
        chosen.append(at)
    return chosen


def ended_at_random(tmp_path: Path, kills: int, act: str, code: int) -> int:
    """End runs at random moments, each up to three times before it may end; returns how many have been ended."""
    rng, done, place = random.Random(kills), 0, 0
    while done < kills:
        run, cache = tmp_path / f"run{place}", new_cache(tmp_path / f"cache{place}")
        place += 1
        assert place <= 2 * kills, f"only {done} of {place} runs have been ended"
        for moment in moments(rng, 6 * kills)[done : min(done + 3, kills)]:
            ended = train(run, cache, act=act, **moment)
            assert "Traceback" not in ended.err, (moment, ended.err)
            assert ended.code in (code, 0), (moment, ended.code, ended.err)
            assert broken(run) == [], moment
            if act != "KILL":
                assert left(run) + left(cache) == [], moment
                assert ended.code == 0 or not checkpoint.is_saved(run) or f"--resume {run}" in ended.out, moment
            done += ended.code == code
        ended = train(run, cache)
        assert ended.code == 0, ended.err
        assert same(run)
    return done


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_moment(tmp_path, kills, record_property):
    """A training that is killed at any moment goes on to the same weights and numbers, bit for bit."""
    record_property("cases", ended_at_random(tmp_path, kills, "KILL", -signal.SIGKILL))


@pytest.mark.slow
@pytest.mark.parametrize(("act", "code", "times"), [("INT", 130, 12), ("TERM", 143, 12)])
def test_interrupted_at_any_moment(tmp_path, act, code, times, record_property):
    """Ctrl-C and SIGTERM end a training by codes 130 and 143, leave nothing half-written, and it goes on."""
    record_property("cases", ended_at_random(tmp_path, times, act, code))


_LOST = """
import os, signal, sys, time
from lac.cli import common

class TakenApart:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

def work(argv):
    TakenApart()
    time.sleep(30)
    return 0

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind & ignores it
common.as_process(lambda: common.run(work, []))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_to_end_is_not_lost(number, code):
    """A command that is asked to end while Python takes an object apart ends all the same."""
    command = [sys.executable, "-c", _LOST, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=25)
    assert ended.returncode == code
    (line,) = ended.stderr.splitlines()
    assert line == ("error: interrupted" if code == 130 else "error: ended by SIGTERM")
