import copy
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import SETTINGS, write_clips

import lac
import lac.data
from lac import pairs, system
from lac.data import Clip
from lac.data.telling import told
from lac.errors import CheckpointError, ConfigError, Diverged
from lac.runs import checkpoint, fit
from lac.runs import run as train
from lac.runs.config import TrainConfig
from lac.runs.sampling import Sampler
from lac.runs.state import start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def dataset(root):
    return lac.data.load("folder", root)


def settings(**changes):
    return TrainConfig.read(None, SETTINGS | {name.replace("_", ".", 1): value for name, value in changes.items()})


def fitted(config, dataset, **options):
    state = start(config, dataset, CPU)
    fit.fit(state, Sampler.of(config, dataset.train), config.train, **options)
    return state


@pytest.fixture(scope="module")
def straight(dataset):
    return fitted(settings(), dataset)


def same(one, two):
    for module in ("encoder", "loss", "teacher"):
        weights = [getattr(state, module).state_dict() for state in (one, two)]
        assert weights[0].keys() == weights[1].keys()
        for name in weights[0]:
            assert torch.equal(weights[0][name], weights[1][name]), name
    assert one.step == two.step
    return True


def gone_on(folder, dataset, config=None):
    config = config or settings()
    state = start(config, dataset, CPU)
    checkpoint.restore(state, folder)
    reached = state.step
    fit.fit(state, Sampler.of(config, dataset.train), config.train)
    return state, reached


def test_training_lowers_the_loss_and_moves_the_gaps(straight, dataset):
    assert straight.history["step"] == [2, 4, 5, 6, 8, 10, 12]
    assert straight.history["total"][-1] < straight.history["total"][0]
    before = start(settings(), dataset, CPU).loss.learned()
    assert straight.loss.learned()["gap_open"] != before["gap_open"]


class Killed(BaseException):
    pass


def test_a_run_stopped_at_step_7_ends_with_the_same_weights(straight, dataset, tmp_path):
    def stop(progress):
        if progress.step >= 7:
            raise Killed

    config = settings(train_log_every=1)
    with pytest.raises(Killed):
        fitted(config, dataset, on_save=lambda state: checkpoint.save(state, tmp_path), on_progress=stop)
    state, reached = gone_on(tmp_path, dataset, config)
    assert reached == 5
    assert same(state, straight)
    assert state.history["step"] == list(range(1, 13))


def test_the_seed_decides(straight, dataset):
    assert same(fitted(settings(train_log_every=5), dataset), straight)
    other = fitted(settings(train_seed=1), dataset)
    assert not torch.equal(other.encoder.head.weight, straight.encoder.head.weight)


def test_the_state_of_the_random_generator_is_left_alone(dataset):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    config = settings(train_steps=1, model_dropout=0.5)
    fit.rehearse(start(config, dataset, CPU), Sampler.of(config, dataset.train), amp=config.train.amp)
    fitted(config, dataset)
    assert torch.equal(torch.rand(3), expected)


def test_a_full_disk_leaves_the_last_checkpoint(straight, dataset, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    def save(state):
        if state.step == 10:
            monkeypatch.setattr(os, "fsync", full)
        checkpoint.save(state, tmp_path)

    with pytest.raises(OSError, match=r"No space left on device.*trainer\.pt") as caught:
        fitted(settings(), dataset, on_save=save)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "loss.safetensors",
        "model.safetensors",
        "trainer.pt",
    ]
    state, reached = gone_on(tmp_path, dataset)
    assert reached == 5
    assert same(state, straight)


_KILLED_WHILE_WRITING = """
import os, signal, sys
from lac.cli.train import main
replace, seen = os.replace, []
def replace_or_die(source, target):
    if str(target).endswith("trainer.pt"):
        seen.append(target)
        if len(seen) == 3:  # the first is that of step 0
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
sys.exit(main(sys.argv[1:]))
"""


def test_sigkill_while_a_checkpoint_is_written(straight, dataset, root, tmp_path):
    folder = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(settings(data_name="folder", data_root=str(root)).to_yaml())
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    command = [sys.executable, "-c", _KILLED_WHILE_WRITING, "-c", str(config), "--out", str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(folder.glob(".trainer*"))  # the half-written one is not in the way of the good one
    state, reached = gone_on(folder, dataset)
    assert reached == 5
    assert same(state, straight)


@pytest.mark.parametrize("bad_step", [1, 3, 4])
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(dataset, tmp_path, monkeypatch, bad_step):
    terms, calls = lac.LACLoss.terms, []

    def spoiled(self, *args, **kwargs):
        calls.append(None)
        result = terms(self, *args, **kwargs)
        return result._replace(total=result.total * float("nan")) if len(calls) == bad_step else result

    monkeypatch.setattr(lac.LACLoss, "terms", spoiled)
    with pytest.raises(Diverged, match=f"at step {bad_step}: loss nan"):
        fitted(
            settings(train_log_every=4, train_save_every=4),
            dataset,
            on_save=lambda state: checkpoint.save(state, tmp_path),
        )
    assert list(tmp_path.iterdir()) == []
    assert len(calls) == 4


def test_numbers_are_read_at_logging_steps_only(dataset, monkeypatch):
    reads, steps = [], []
    to_host = torch.Tensor.cpu

    def cpu(tensor, *arguments, **options):
        reads.append(len(tensor))
        return to_host(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    config = settings(train_log_every=5, train_save_every=100)
    fitted(config, dataset, on_progress=lambda progress: steps.append(progress.step))
    assert (reads, steps) == ([5, 5, 2], [5, 10, 12])


def test_the_loss_sees_float32_under_amp(dataset, monkeypatch):
    terms, seen = lac.LACLoss.terms, []

    def watched(self, z1, z2, **kwargs):
        seen.append((z1.dtype, z2.dtype))
        return terms(self, z1, z2, **kwargs)

    monkeypatch.setattr(lac.LACLoss, "terms", watched)
    exact = fitted(settings(train_steps=2), dataset)
    mixed = fitted(settings(train_steps=2, train_amp=True), dataset)
    assert set(seen) == {(torch.float32, torch.float32)}
    assert mixed.encoder.head.weight.dtype == torch.float32
    assert not torch.equal(mixed.encoder.head.weight, exact.encoder.head.weight)
    # bfloat16 keeps 8 bits: the losses agree to a few units of 2^-8 of their size.
    np.testing.assert_allclose(mixed.history["total"], exact.history["total"], rtol=8 * 2.0**-8)


def test_learning_rate_warms_up_and_falls_to_zero():
    options = settings(train_steps=100, train_warmup=10, train_lr=0.5).train
    rates = [fit.learning_rate(step, options) for step in range(100)]
    assert rates[0] == 0.05
    assert rates[9] == rates[10] == max(rates) == 0.5
    assert rates[55] == pytest.approx(0.25)
    assert rates[99] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_weight_decay_spares_gaps_and_norms(dataset):
    state = start(settings(), dataset, CPU)
    decayed, spared, learned = ({id(p) for p in group["params"]} for group in state.optimiser.param_groups)
    assert id(state.encoder.head.weight) in decayed
    assert id(state.encoder.head.bias) in spared
    assert learned == {id(p) for p in state.loss.parameters() if p.requires_grad}
    assert decayed | spared == {id(p) for p in state.encoder.parameters()}
    assert [group["weight_decay"] > 0 for group in state.optimiser.param_groups] == [True, False, False]


def test_the_loss_learns_at_its_own_rate(dataset):
    config = settings(train_steps=1, train_warmup=0)
    state = start(config, dataset, CPU)
    fit.fit(state, Sampler.of(config, dataset.train), config.train)
    rates = [group["lr"] for group in state.optimiser.param_groups]
    assert rates == [config.train.lr, config.train.lr, 10 * config.train.lr]


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    config = settings(data_name="folder", data_root=str(root))
    return train.train(config, tmp_path_factory.mktemp("runs") / "one")


def test_a_run_leaves_its_folder(run, straight):
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml", "model.safetensors", "loss.safetensors", "trainer.pt", "trainer.previous.pt", "metrics.json",
        "plots/alignment.png", "plots/frames.png", "plots/retrieval.png", "plots/curves.png", "report.html", ".lock",
    }  # fmt: skip
    assert torch.equal(run.encoder.head.weight, straight.encoder.head.weight)


def test_metrics_hold_the_controls(run):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert list(metrics["results"]) == ["trained encoder", "time index", "raw features", "random encoder"]
    assert metrics["not_evaluated"] is None
    assert metrics["environment"]["torch"] == torch.__version__
    assert set(metrics["seconds"]) == {"training", "evaluation"}


def test_events_carry_the_known_tags(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "train/loss", "train/lr", "train/gap_open", "metrics/folder_classification",
        "classification/val_folder_0.5_accuracy", "event_completion/val_folder_1_score",
        "kendalls_tau/val_align_tau", "AP/val set 5_align_precision",
    } <= tags  # fmt: skip
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4, 5, 6, 8, 10, 12]


def test_a_run_can_be_loaded(run, dataset, straight):
    encoder, config, loaded = train.load_run(run.folder)
    assert config.train.steps == 12
    assert not encoder.training
    clip = loaded.val[0]
    assert clip.name == dataset.val[0].name
    frames = torch.from_numpy(clip.frames)[None]
    assert torch.equal(encoder(frames), run.encoder(frames))
    loss = checkpoint.read_loss(run.folder)
    for name, value in straight.loss.state_dict().items():
        assert torch.equal(loss.state_dict()[name], value)
    aligned = pairs.align_clips(encoder, loss, loaded.val[0], loaded.val[1])
    assert aligned.posterior.shape == (len(loaded.val[0]), len(loaded.val[1]))
    assert (aligned.path.diff(dim=0) > 0).all()


def test_a_folder_that_holds_something_is_refused(run, tmp_path):
    with pytest.raises(FileExistsError, match="--resume"):
        train.train(settings(), run.folder)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="not an empty folder; choose"):
        train.train(settings(), tmp_path)
    with pytest.raises(FileExistsError):
        train.train(settings(), tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def config_of(root, **changes):
    return settings(data_name="folder", data_root=str(root), **changes)


@pytest.fixture
def train_only(monkeypatch):
    """Runs end after the last checkpoint, without evaluation and pictures."""

    def stop(*arguments, **options):
        raise Killed

    monkeypatch.setattr(train, "evaluate_dataset", stop)

    def train_only(*arguments, **options):
        with pytest.raises(Killed):
            train.train(*arguments, **options)

    return train_only


def test_what_a_run_left_before_its_first_checkpoint_is_no_obstacle(root, tmp_path, train_only):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(config_of(root, train_lr=0.1).to_yaml())
    for left in (".lock", ".trainer.abcd1234.pt"):
        (folder / left).touch()
    with pytest.raises(CheckpointError, match=r"holds no checkpoint.*start it again, without --resume"):
        train.train(config_of(root), folder, resume=True)
    train_only(config_of(root, train_steps=1), folder)
    assert TrainConfig.of_run(folder) == config_of(root, train_steps=1)
    assert not list(folder.glob(".trainer.*"))


def test_a_run_that_came_to_nothing_is_no_obstacle(root, straight, tmp_path, train_only):
    for _ in range(2):
        with pytest.raises(Diverged):
            train.train(config_of(root, train_lr=1e12, train_warmup=0), tmp_path)
    assert checkpoint.read_state(tmp_path / "trainer.pt")["step"] == 0
    train_only(config_of(root), tmp_path)
    assert torch.equal(checkpoint.read_encoder(tmp_path).head.weight, straight.encoder.head.weight)
    assert len(list(tmp_path.glob("events.*"))) == 1
    with pytest.raises(FileExistsError, match="--resume"):
        train.train(config_of(root), tmp_path)


@pytest.mark.parametrize("spoil", [lambda folder: (folder / "notes").touch(), lambda folder: None])
def test_a_run_that_has_saved_a_step_is_an_obstacle(root, tmp_path, train_only, spoil):
    train_only(config_of(root), tmp_path)
    spoil(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="--resume"):
        train.train(config_of(root), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("text", ["train: {steps: 3}", "# by hand\n", "{"])
def test_a_configuration_of_the_user_is_not_written_over(root, tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(FileExistsError, match="not an empty folder; choose"):
        train.train(config_of(root), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == text


@pytest.mark.parametrize("names", [["model.safetensors"], ["config.yaml", "model.safetensors"], ["trainer.pt"]])
def test_weights_that_somebody_kept_are_not_removed(root, run, tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    with pytest.raises(FileExistsError, match="not an empty folder"):
        train.train(config_of(root), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_first_checkpoint_is_that_of_step_0(root, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise Killed

    monkeypatch.setattr(train, "fit", stop)
    with pytest.raises(Killed):
        train.train(config_of(root), tmp_path)
    state = checkpoint.read_state(tmp_path / "trainer.pt")
    assert state["step"] == 0
    assert {"config.yaml", "model.safetensors", "loss.safetensors"} <= {path.name for path in tmp_path.iterdir()}


def test_a_disk_without_room_is_told_before_anything_is_written(root, run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs about 4\.\d MB there, and 1\.5 MB are free") as caught:
        train.train(config_of(root), tmp_path / "new" / "run")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No space left"):
        train.train(config_of(root), run.folder, resume=True)


def test_the_room_that_is_asked_for_is_enough(run):
    """Of the tensors, that is: names and numbers take the rest in so small a run."""
    state = start(settings(), lac.data.load("folder", TrainConfig.of_run(run.folder).data.root), CPU)
    weights = sum(t.numel() * t.element_size() for t in state.encoder.state_dict().values())
    files = (*CHECKPOINT, "trainer.previous.pt", "report.html", *(f"plots/{path.name}" for path in run.pictures))
    written = sum((run.folder / name).stat().st_size for name in files)
    assert written < 11 * weights + 4_000_000


_HOLDS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from files import locked
with locked(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_one_trainer_a_folder(root, run, tmp_path, train_only):
    shutil.copytree(run.folder, tmp_path / "run")
    folder = tmp_path / "run"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}
    command = [sys.executable, "-c", _HOLDS, str(Path(lac.__file__).parent), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"process {other.pid} is at work in this folder"):
            train.train(config_of(root), folder, resume=True)
        assert {name: (folder / name).read_bytes() for name in before} == before
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / ".lock").hardlink_to(folder / ".lock")
        with pytest.raises(BlockingIOError):
            train.train(config_of(root), tmp_path / "new")
        other.kill()
    train_only(config_of(root), folder, resume=True)


def test_another_run_begins_with_the_weights(root, run, tmp_path, train_only):
    config = TrainConfig.read(
        None,
        {"data.name": "folder", "data.root": str(root), "train.steps": 1, "train.batch": 3, "augment.frames": 8},
        weights_of=TrainConfig.of_run(run.folder),
    )
    assert config.model == settings().model
    state = start(config, lac.data.load("folder", root), CPU)
    checkpoint.begin_with(state, run.folder)
    assert torch.equal(state.encoder.head.weight, run.encoder.head.weight)
    learned = checkpoint.read_loss(run.folder).state_dict()
    assert all(torch.equal(value, learned[name]) for name, value in state.loss.state_dict().items())
    assert state.step == 0
    assert not state.optimiser.state
    train_only(config, tmp_path / "run", init=run.folder)
    before = checkpoint.read_state(tmp_path / "run" / "trainer.previous.pt")
    assert before["step"] == 0
    states = (before, checkpoint.read_state(tmp_path / "run" / "trainer.pt"))
    assert [state["init"] for state in states] == [str(run.folder)] * 2
    assert run.metrics["init"] is None
    assert torch.equal(before["encoder"]["head.weight"], run.encoder.head.weight)
    after = checkpoint.read_encoder(tmp_path / "run")
    assert not torch.equal(after.head.weight, run.encoder.head.weight)


def test_weights_that_do_not_fit_are_refused(dataset, run):
    state = start(settings(model_width=16), dataset, CPU)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit FrameEncoder"):
        checkpoint.begin_with(state, run.folder)


def test_too_few_frames_are_told_before_the_first_step(tmp_path):
    config = settings(
        data_name="folder", data_root=str(write_clips(tmp_path / "clips")), train_steps=2, augment_frames=40
    )
    lines = []

    def progress(_):
        lines.append("trained")

    with told(lines.append):
        train.train(config, tmp_path / "run", progress=progress)
    assert lines[0].startswith("the median train clip has ")
    assert "trained" in lines[1:]


def test_pictures_of_the_pair_say_how_far_their_match_may_be_chance(run):
    shown = run.metrics["pictures"]
    for name in ("alignment.png", "frames.png"):
        assert re.search(r"; chance (< \.0001|\d?\.\d{4}), that shuffled frames match as well$", shown[name]), shown


def test_clips_without_labels_are_trained_on_but_not_judged(tmp_path):
    config = settings(data_name="folder", data_root=str(write_clips(tmp_path / "clips", labels=False)), train_steps=2)
    result = train.train(config, tmp_path / "run")
    assert "no labels" in result.not_evaluated
    assert result.metrics["results"] == {}
    assert result.metrics["verdict"][0].startswith("Nothing was judged: that takes phases (labels/NAME.csv) of two")
    assert all(path.is_file() for path in result.pictures)


@pytest.fixture
def copy_of_run(run, tmp_path):
    for name in ("config.yaml", *CHECKPOINT):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    return tmp_path


CHECKPOINT = ("trainer.pt", "model.safetensors", "loss.safetensors")


def use(folder, dataset, name):
    """What reads a file of a checkpoint."""
    if name == "trainer.pt":
        return gone_on(folder, dataset)
    if name == "model.safetensors":
        return checkpoint.read_encoder(folder)
    return checkpoint.read_loss(folder)


def flipped(content, bit):
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


@pytest.mark.parametrize("name", CHECKPOINT)
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b"",
        lambda b: b[:-1],
        lambda b: b + b"0",
        lambda b: b"\x80\x04N." + b[:9],
        lambda b: flipped(b, 4 * len(b)),
        lambda b: flipped(b, b.index(b"sha256:") * 8 + 8 * 20),
    ],
    ids=["half", "empty", "one byte less", "one byte more", "other", "one bit", "one bit of the digest"],
)
def test_a_damaged_checkpoint_is_named(copy_of_run, dataset, name, damage):
    path = copy_of_run / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{name} is damaged"):
        use(copy_of_run, dataset, name)


@pytest.mark.slow
def test_one_flipped_bit_anywhere_is_found(copy_of_run, dataset):
    rng = np.random.default_rng(0)
    for _ in range(100):
        name = CHECKPOINT[rng.integers(3)]
        path = copy_of_run / name
        content = path.read_bytes()
        path.write_bytes(flipped(content, int(rng.integers(8 * len(content)))))
        with pytest.raises(CheckpointError, match=rf"{name} is damaged"):
            use(copy_of_run, dataset, name)
        path.write_bytes(content)
    for name in CHECKPOINT:
        use(copy_of_run, dataset, name)


def two_checkpoints(folder, dataset):
    """A run that was stopped at step 10, with the checkpoint of step 5 before it."""

    def save(state):
        checkpoint.save(state, folder)
        if state.step == 10:
            raise Killed

    with pytest.raises(Killed):
        fitted(settings(), dataset, on_save=save)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: flipped(b, 4 * len(b)), None])
def test_the_checkpoint_before_a_damaged_one_is_taken(straight, dataset, tmp_path, caplog, damage):
    two_checkpoints(tmp_path, dataset)
    newest = tmp_path / "trainer.pt"
    if damage:
        newest.write_bytes(damage(newest.read_bytes()))
    else:  # killed between two renames
        newest.unlink()
    state, reached = gone_on(tmp_path, dataset)
    assert reached == 5
    assert same(state, straight)
    assert state.history == straight.history
    assert f"{newest} is {'damaged' if damage else 'missing'}; going on" in caplog.text
    assert "at step 5" in caplog.text
    # It has become the newest, so that the next checkpoint does not push it out for a damaged one.
    assert checkpoint.read_state(newest)["step"] == 5
    assert not (tmp_path / "trainer.previous.pt").exists()


def test_two_damaged_checkpoints_are_refused(dataset, tmp_path):
    two_checkpoints(tmp_path, dataset)
    for name in ("trainer.pt", "trainer.previous.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"trainer\.previous\.pt is damaged"):
        gone_on(tmp_path, dataset)


def test_other_readers_take_the_files(run, straight):
    from safetensors.torch import load_file

    weights = load_file(run.folder / "model.safetensors")
    assert torch.equal(weights["head.weight"], straight.encoder.head.weight)
    state = torch.load(run.folder / "trainer.pt", weights_only=True)
    assert state["step"] == 12
    assert state["lac"] == lac.__version__


def test_a_checkpoint_of_another_model_is_named(copy_of_run, dataset):
    with pytest.raises(CheckpointError, match=r"trainer\.pt does not fit FrameEncoder: .*size mismatch|Missing"):
        gone_on(copy_of_run, dataset, settings(model_width=16))
    checkpoint.write_state(copy_of_run / "trainer.pt", {"step": 3})
    words = r"lacks encoder, history, init, lac, loss, optimiser, teacher: .*by something else"
    with pytest.raises(CheckpointError, match=words):
        gone_on(copy_of_run, dataset)
    checkpoint.write_state(copy_of_run / "trainer.pt", {"step": 3, "lac": "7.0"})
    with pytest.raises(CheckpointError, match=rf"lacks encoder.*written by lac 7\.0, this is lac {lac.__version__}"):
        gone_on(copy_of_run, dataset)


def test_weights_without_the_encoder_arguments_are_named(copy_of_run):
    checkpoint.write_weights(copy_of_run / "model.safetensors", torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"model\.safetensors holds no FrameEncoder"):
        train.load_run(copy_of_run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config | {"pooling": "mean"}, "unknown arguments pooling"),
        (lambda config: {k: v for k, v in config.items() if k != "backbone"}, "missing ones backbone"),
    ],
)
def test_an_encoder_of_another_version_is_told_as_such(run, tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(lac, "__version__", "7.0")
    checkpoint.write_weights(tmp_path / "model.safetensors", run.encoder, {"FrameEncoder": change(run.encoder.config)})
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match=rf"written by lac 7\.0, this is lac {lac.__version__}.*{words}"
    ) as caught:
        checkpoint.read_encoder(tmp_path)
    assert "damaged" not in str(caught.value)


def test_a_checkpoint_of_another_version_that_does_not_fit_names_both(dataset, tmp_path, monkeypatch):
    state = start(settings(), dataset, CPU)
    monkeypatch.setattr(lac, "__version__", "7.0")
    state.encoder.head = torch.nn.Linear(8, 5)
    checkpoint.save(state, tmp_path)
    monkeypatch.undo()
    for read in (gone_on, lambda folder, dataset: checkpoint.read_encoder(folder)):
        with pytest.raises(CheckpointError, match=rf"does not fit.*by lac 7\.0, this is lac {lac.__version__}"):
            read(tmp_path, dataset)


def test_a_backbone_that_no_file_can_make_again_is_not_written(tmp_path):
    encoder = lac.FrameEncoder(4, width=8, heads=2, backbone=torch.nn.Conv2d(3, 4, 1))
    with pytest.raises(TypeError, match=r"a module of your own \(Conv2d\).*state_dict"):
        checkpoint.write_encoder(tmp_path, encoder)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_runs_no_code(copy_of_run, dataset):
    class Evil:
        def __reduce__(self):
            return Path.touch, (copy_of_run / "owned",)

    checkpoint.write_state(copy_of_run / "trainer.pt", {"step": Evil()})
    with pytest.raises(CheckpointError, match=r"trainer\.pt is whole, but torch .* cannot read it"):
        gone_on(copy_of_run, dataset)
    assert not (copy_of_run / "owned").exists()


def test_a_run_without_a_checkpoint_starts_at_the_beginning(straight, dataset, tmp_path):
    state, reached = gone_on(tmp_path, dataset)
    assert reached == 0
    assert same(state, straight)


@pytest.mark.parametrize("name", ["gpu", "meta:cat", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(name):
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
        system.pick_device(name)


def test_images_go_through_a_backbone(tmp_path):
    clips = [Clip(f"{k}", np.random.default_rng(k).random((9, 3, 16, 16)), np.arange(9) / 25, None) for k in range(4)]
    dataset = lac.data.Dataset("images", clips[:3], clips[3:], [])
    config = settings(model_backbone="small", train_steps=1)
    state = fitted(config, dataset)
    before = copy.deepcopy(state.encoder.backbone.state_dict())
    checkpoint.save(state, tmp_path)
    restored = checkpoint.read_encoder(tmp_path)
    assert all(torch.equal(before[name], value) for name, value in restored.backbone.state_dict().items())
