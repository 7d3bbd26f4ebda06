from collections.abc import Sequence

import numpy as np
import pytest
import yaml
from tiny_run import SETTINGS

from lac import FrameEncoder, LACLoss
from lac.errors import ConfigError
from lac.options import checked_options
from lac.runs.config import TrainConfig, parse_override


def test_the_defaults_are_those_of_the_classes():
    config = TrainConfig.read()
    assert FrameEncoder(3, **config.model).config == FrameEncoder(3).config
    assert repr(LACLoss(**config.loss)) == repr(LACLoss())


def test_yaml_gives_the_configuration_back(tmp_path):
    config = TrainConfig.read(None, SETTINGS | {"data.options": {"rate": 10.0}})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert TrainConfig.read(path) == config
    assert TrainConfig.read(path, {"train.seed": 3}).train.seed == 3


def test_partial_files_are_completed(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("train:\n  lr: 1e-3\nmodel: {layers: 3}\n")
    config = TrainConfig.read(path)
    assert (config.train.lr, config.model["layers"], config.data.name) == (1e-3, 3, "watch")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.step=3", r"train\.step; did you mean 'steps'"),
        ("trian.steps=3", r"section 'trian'.*did you mean 'train'"),
        ("model.witdh=8", r"model\.witdh; did you mean 'width'"),
        ("loss.zzz=8", r"loss\.zzz; known: .*temperature"),
        ("train.steps=many", r"train\.steps must be a whole number, got 'many'"),
        ("train.steps=2.5", r"train\.steps must be a whole number, got 2\.5"),
        ("train.steps=true", r"train\.steps must be a whole number, got True"),
        ("train.lr=fast", r"train\.lr must be a number, got 'fast'"),
        ("train.amp=1", r"train\.amp must be true or false, got 1"),
        ("train.teacher=1", r"train\.teacher must be at least 0 and below 1, got 1"),
        ("train.reach=.inf", r"train\.reach must be finite, got inf"),
        ("data.root=3", r"data\.root must be text or null, got 3"),
        ("data.options=3", r"data\.options must be a mapping, got 3"),
        ("train.steps=0", r"train\.steps must be at least 1, got 0"),
        ("train.lr=-1", r"train\.lr must be positive, got -1"),
        ("train.lr=.inf", r"train\.lr must be finite, got inf"),
        ("train.seed=-1", r"train\.seed must not be negative, got -1"),
        ("train.lr.deep=1", r"train\.lr must be a number, got \{'deep': 1\}"),
        ("model.input_dim=3", r"unknown setting model\.input_dim"),
        ("steps=3", r"must read section\.setting=value"),
        ("train.steps", r"must read section\.setting=value"),
        ("train.steps=[1", r"not YAML"),
    ],
)
def test_a_wrong_setting_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.read(None, dict([parse_override(override)]))


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "train: 3\n", "train: [unclosed\n", "\x00"])
def test_a_wrong_file_is_named(tmp_path, text):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.yaml|'train' must be a mapping"):
        TrainConfig.read(path)


def test_yaml_numbers_without_a_dot_are_numbers():
    assert yaml.safe_load("1e-3") == "1e-3"  # the trap
    assert TrainConfig.read(None, dict([parse_override("train.lr=1e-3")])).train.lr == 1e-3


def test_numbers_of_numpy_are_numbers():
    def load(root=None, *, rate: float = 1.0, size: int | Sequence[int] = 1, span: tuple[float, float] = (0, 1)):
        return None

    given = {"rate": np.float32(2.5), "size": np.int64(3), "span": [1, "1e-3"]}
    assert checked_options(load, given) == {"rate": 2.5, "size": 3, "span": [1.0, 1e-3]}
    assert checked_options(load, {"size": [4, 5]}) == {"size": [4, 5]}
    for wrong in ({"size": [4, "x"]}, {"span": [1]}, {"span": [1, 2, 3]}, {"rate": True}, {"rate": "fast"}):
        with pytest.raises(ConfigError, match=rf"data\.options\.{next(iter(wrong))} must be"):
            checked_options(load, wrong)


def test_items_of_a_list_may_be_of_several_kinds():
    def loader(root=None, *, chosen: str | list[str | int] = "all", pair: tuple[int, float | None] = (1, None)):
        """A loader."""

    assert checked_options(loader, {"chosen": ["a", 3], "pair": [2, "1e-3"]}) == {"chosen": ["a", 3], "pair": [2, 1e-3]}
    for wrong in ({"chosen": ["a", 1.5]}, {"chosen": [True]}, {"pair": [1, "x"]}, {"pair": [1]}):
        with pytest.raises(ConfigError, match=r"data\.options\..* must be .*a list"):
            checked_options(loader, wrong)
