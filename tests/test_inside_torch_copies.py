"""Modules copied, pickled, stored and loaded, also by a version of lac other than the one that wrote them."""

import copy
import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_run import SETTINGS, write_clips
from torch import Tensor, nn
from ways_of_calling import WAYS, embedded

from lac import FrameEncoder, SmithWaterman
from lac.errors import CheckpointError
from lac.gaps import ConstantGaps, ContextualGaps, IntervalGaps, LearnedGaps
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.state import start

pytestmark = pytest.mark.promise("torch")
STORED = Path(__file__).parent / "stored"  # what lac 0.1.0 wrote: `python tests/test_inside_torch_copies.py`

Module = tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]  # what makes it, and a call of it


def aligner(gaps: Callable[[], nn.Module]) -> Module:
    z1, z2 = (z.detach() for z in embedded(3, 5, 6, 4))
    return lambda: SmithWaterman(gaps()), lambda module: module(z1 @ z2.mT - 1, z1=z1, z2=z2)


def gap_model(make: Callable[[], nn.Module]) -> Module:
    z1, z2 = (z.detach() for z in embedded(3, 5, 6, 4))
    times = [torch.arange(float(z.shape[1])).expand(z.shape[:2]) ** 2 for z in (z1, z2)]
    return make, lambda module: sum(x.sum() for x in module(z1, z2, *times)) + 0 * z1.sum()


def encoder(input_dim: int | None, **options: Any) -> Module:
    torch.manual_seed(1)
    frames = torch.rand(2, 3, 3, 16, 16) if input_dim is None else torch.randn(2, 5, input_dim)
    options = {"embed_dim": 4, "width": 8, "heads": 2, "layers": 1} | options
    return lambda: FrameEncoder(input_dim, **options), lambda module: module(frames, lengths=[frames.shape[1], 2])


def loss(name: str, **settings: Any) -> Module:
    z = [z.detach() for z in embedded(5, 6, 7, 4)]
    return lambda: WAYS[name].loss(4, **settings), lambda module: module(*z, **WAYS[name].arguments(*z))


GAPS: dict[str, Callable[[], nn.Module]] = {
    "constant": lambda: ConstantGaps(0.7, 0.3),
    "learned": lambda: LearnedGaps(0.7, 0.3),
    "contextual": lambda: ContextualGaps(4, 0.7, 0.3),
    "interval": lambda: IntervalGaps(0.7, 0.3),
}
SMALL: dict[str, Module] = {
    **{f"gaps {name}": gap_model(make) for name, make in GAPS.items()},
    **{f"aligner {name}": aligner(make) for name, make in GAPS.items()},
    **{f"loss {name}": loss(name) for name in WAYS},
    "encoder": encoder(6),
    "encoder of other settings": encoder(
        6, embed_dim=3, width=12, heads=3, layers=2, dropout=0.2, shortest_wavelength=0.1, longest_wavelength=9.0
    ),
    "encoder without layers": encoder(6, layers=0),
}
KEPT = [  # every kind of parameter and buffer
    *("loss two recordings", "loss contextual gaps", "loss two clocks", "loss the score"),
    *("aligner contextual", "encoder of other settings"),
]
MODULES = SMALL | {"encoder of pictures": encoder(None, backbone="small")}


def by_pickle(module: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def by_save(module: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state(module: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    made = make()
    made.load_state_dict(torch.load(file, weights_only=True))
    return made


COPIES = (lambda module, make: copy.deepcopy(module), by_pickle, by_save, by_state)


def trained(module: nn.Module, call: Callable[[nn.Module], Tensor]) -> nn.Module:
    """After a step of the optimiser, gradients left in place."""
    learned = [p for p in module.parameters() if p.requires_grad]
    if learned:
        optimiser = torch.optim.Adam(learned, lr=0.01)
        call(module).square().sum().backward()
        optimiser.step()
    return module


@pytest.mark.parametrize("name", MODULES)
def test_a_copy_is_the_same_module(name, record_property):
    """deepcopy, pickle, torch.save, a state_dict: the same values bit for bit, before training and after it."""
    torch.manual_seed(0)
    make, call = MODULES[name]
    for module in (make().eval(), trained(make(), call).eval()):
        expected = call(module)
        for copied in COPIES:
            other = copied(module, make).eval()
            assert torch.equal(call(other), expected)
            assert other.state_dict().keys() == module.state_dict().keys()
            assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in module.parameters()]
            assert all(p is not q for p, q in zip(other.parameters(), module.parameters(), strict=True))
            assert repr(other) == repr(module)
    record_property("cases", 2 * len(COPIES))


@pytest.mark.parametrize("name", KEPT)
def test_what_another_version_wrote_is_read(name):
    """Weights that lac 0.1.0 has written load into this version, and give the values that they gave there."""
    make, call = SMALL[name]
    stored = safetensors.torch.load_file(STORED / "modules.safetensors")
    state = {key.removeprefix(f"{name}/"): x for key, x in stored.items() if key.startswith(f"{name}/")}
    value = state.pop("value")
    module = make().eval()
    module.load_state_dict(state)
    torch.testing.assert_close(call(module), value, rtol=1e-4, atol=1e-5)


def test_a_run_that_another_version_wrote_goes_on(tmp_path):
    """A run folder that lac 0.1.0 has written: encoder and loss are read, and training resumes."""
    expected = safetensors.torch.load_file(STORED / "run.safetensors")
    module = checkpoint.read_encoder(STORED / "run")
    torch.testing.assert_close(module(expected["frames"]), expected["embeddings"], rtol=1e-4, atol=1e-5)
    z = expected["embeddings"]
    torch.testing.assert_close(checkpoint.read_loss(STORED / "run")(z, z.flip(1)), expected["loss"])
    config = TrainConfig.of_run(STORED / "run")
    state = start(config, _settings(tmp_path).data.load(torch.device("cpu")), torch.device("cpu"))
    checkpoint.restore(state, STORED / "run")
    assert state.step == 1
    assert torch.equal(state.encoder.head.weight, module.head.weight)
    assert len(state.optimiser.state_dict()["state"]) == sum(
        len(group["params"]) for group in state.optimiser.param_groups
    )


@pytest.mark.parametrize("change", ["unknown", "missing", "another shape"])
def test_weights_that_do_not_fit_are_refused(change, tmp_path):
    """Weights with unknown names, without some or of another shape: an error that names file, name and version."""
    torch.manual_seed(0)
    made = FrameEncoder(6, embed_dim=4, width=8, heads=2, layers=1)
    weights = made.state_dict()
    if change == "unknown":
        weights["attention.bias"] = torch.zeros(3)
    else:
        weights["head.weight"] = weights["head.weight"][:3]
        if change == "missing":
            del weights["head.weight"]
    path = tmp_path / checkpoint.ENCODER
    named = "attention.bias" if change == "unknown" else "head.weight"
    with pytest.raises(CheckpointError, match=named) as error:
        checkpoint.load_weights(made, weights, path, "0.9.7")
    assert str(path) in str(error.value)
    assert "written by lac 0.9.7, this is lac" in str(error.value)


def _settings(folder: Path) -> TrainConfig:
    settings = {"train.steps": 1, "train.warmup": 1, "model.layers": 0}
    return TrainConfig.read(None, SETTINGS | settings | {"data.name": "folder", "data.root": str(write_clips(folder))})


def write() -> None:
    """The files in STORED. Only where a new one is wanted: what is there was written by the version that it names."""
    from lac.runs.fit import fit
    from lac.runs.sampling import Sampler

    STORED.mkdir(exist_ok=True)
    stored = {}
    for name in KEPT:
        make, call = SMALL[name]
        torch.manual_seed(0)
        module = trained(make(), call).eval()
        for key, x in {**module.state_dict(), "value": call(module).detach()}.items():
            stored[f"{name}/{key}"] = x.contiguous()
    safetensors.torch.save_file(stored, STORED / "modules.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        config = _settings(Path(folder))
        dataset = config.data.load(torch.device("cpu"))
        state = start(config, dataset, torch.device("cpu"))
        fit(state, Sampler.of(config, dataset.train), config.train)
        (STORED / "run").mkdir(exist_ok=True)
        checkpoint.save(state, STORED / "run")
        (STORED / "run" / CONFIG).write_text(config.to_yaml().replace(folder, "clips"))
    frames = torch.from_numpy(dataset.train[0].frames)[None]
    z = state.encoder.eval()(frames).detach()
    expected = {"frames": frames, "embeddings": z, "loss": state.loss(z, z.flip(1)).detach()}
    safetensors.torch.save_file(expected, STORED / "run.safetensors")


if __name__ == "__main__":
    write()
