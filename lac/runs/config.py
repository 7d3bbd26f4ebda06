"""The settings of a training run: five sections, from YAML and from dotted overrides, checked before use.

    data:    {name: watch, root: null, options: {}}   # lac.data.load(name, root, **options)
    augment: {...}                                    # keyword arguments of lac.data.augment.two_views
    model:   {...}                                    # keyword arguments of lac.FrameEncoder
    loss:    {...}                                    # keyword arguments of lac.LACLoss
    train:   {steps: ..., batch: ..., ...}            # TrainSection

The defaults of `augment`, `model` and `loss` are those of the function and the two classes; they are
written nowhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lac.bounds import read_text
from lac.errors import ConfigError
from lac.options import converted

if TYPE_CHECKING:
    import torch

    from lac.data import Dataset

CONFIG = "config.yaml"  # its name in a run folder
_MOST = 1 << 20  # bytes of such a file
_DEEPEST = 20  # lists and mappings in each other
# Settings that only say where the loss starts to learn: its weights stand for them.
_WEIGHTS_OF_THE_LOSS = ("gaps", "embed_dim", "gap_open", "gap_extend", "margin", "scale")


@dataclass(frozen=True)
class DataSection:
    """Which data set: the arguments of `lac.data.load`."""

    name: str = "watch"
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.options:
            if not isinstance(name, str):
                raise ConfigError(f"data.options must have names, got {name!r}")

    def load(self, device: torch.device | str = "cpu") -> Dataset:
        """The data set; features of videos are computed on `device`. Errors: see `lac.data.load`."""
        from lac.data import load

        return load(self.name, self.root, device=device, **self.options)


@dataclass(frozen=True)
class TrainSection:
    """How to train.

    Attributes:
        steps: optimiser steps.
        batch: pairs of clips in a step.
        teacher: how much a step leaves of the slow copy of the encoder whose embeddings the consensus aligns by, from
            0 (the encoder itself) to below 1. There is one where `loss.consensus_weight` is above 0 and some action has
            two training clips.
        reach: of the self-similarity that guides the consensus, in seconds, see `lac.self_similarity`; 0: no guide.
            About a quarter of the time that the action takes.
        lr: highest learning rate: reached linearly over `warmup` steps, then down to 0 on a cosine. The loss's own
            parameters learn at ten times this rate.
        weight_decay: AdamW's, on matrices only (not on biases, norms, gap and scale parameters).
        clip: largest norm of the gradient, over all parameters together.
        amp: run the encoder in bfloat16 autocast. The loss stays in float32.
        seed: initial weights, dropout, and the draw of every batch.
        device: `"auto"` (CUDA when there is one), `"cpu"`, `"cuda"`, `"cuda:1"`...
        log_every: steps between two lines of progress; the numbers are read from the device only then.
        save_every: steps between two checkpoints.
        stride: of the evaluation, see `lac.runs.evaluate.evaluate`.
    """

    steps: int = 300
    batch: int = 16
    teacher: float = 0.99
    reach: float = 0.8
    lr: float = 1e-3
    warmup: int = 40
    weight_decay: float = 1e-2
    clip: float = 1.0
    amp: bool = False
    seed: int = 0
    device: str = "auto"
    log_every: int = 10
    save_every: int = 100
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "save_every", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.teacher < 1:
            raise ConfigError(f"train.teacher must be at least 0 and below 1, got {self.teacher}")
        for name in ("warmup", "weight_decay", "seed", "reach"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if self.seed >= 1 << 63:
            raise ConfigError(f"train.seed must be below 2^63, got {self.seed}")
        for name in ("lr", "weight_decay", "reach"):
            if math.isinf(getattr(self, name)):
                raise ConfigError(f"train.{name} must be finite, got {getattr(self, name)}")


_CUT = "it has been cut or changed, or an earlier state of this version wrote it; bring the file back, or train again"


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run; made by `from_mapping` or `read`, which fill in every default."""

    data: DataSection = field(default_factory=DataSection)
    augment: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    train: TrainSection = field(default_factory=TrainSection)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> TrainConfig:
        """Check a nested mapping (as YAML gives it) and fill in every default.

        Raises:
            ConfigError: an unknown section or setting (the nearest known name is told), a value of the wrong
                type or out of range. The message names the setting by its dotted path.
        """
        from lac.data.augment import two_views
        from lac.loss import LACLoss
        from lac.model.encoder import FrameEncoder

        known = [section.name for section in dataclasses.fields(cls)]
        for name, section in mapping.items():
            if name not in known:
                raise ConfigError(f"unknown section {name!r} in the configuration{_nearest(str(name), known)}")
            if not isinstance(section, Mapping):
                raise ConfigError(f"section {name!r} must be a mapping of settings, got {section!r}")
        part = {name: mapping.get(name, {}) for name in known}
        return cls(
            data=DataSection(**_checked("data", DataSection, part["data"])),
            augment=_completed("augment", two_views, part["augment"], skip=("clip", "rng", "distractors")),
            model=_completed("model", FrameEncoder.__init__, part["model"], skip=("self", "input_dim")),
            loss=_completed("loss", LACLoss.__init__, part["loss"], skip=("self", "reduction", "consensus", "gather")),
            train=TrainSection(**_checked("train", TrainSection, part["train"])),
        )

    @classmethod
    def read(
        cls,
        path: str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        *,
        weights_of: TrainConfig | None = None,
    ) -> TrainConfig:
        """The YAML file `path` (`None`: all defaults) with overrides as `{"train.steps": 200}` on top.

        With `weights_of`, the settings of a run whose weights are to be taken, all that the weights stand for comes
        from there: the model, and what the loss has learned.

        Raises:
            ConfigError: see `from_mapping`; also a file that is not YAML, or a setting that is not that of the
                weights.
            OSError: the file cannot be read.
        """
        mapping = {} if path is None else _read_yaml(path)
        for name, value in (overrides or {}).items():
            _set(mapping, name, value)
        config = cls.from_mapping(mapping)
        if weights_of is None:
            return config
        for section, names in {"model": tuple(config.model), "loss": _WEIGHTS_OF_THE_LOSS}.items():
            there, here = (_plain(getattr(one, section)) for one in (weights_of, config))
            for name in names:
                if name in mapping.get(section, {}) and here[name] != there[name]:
                    raise ConfigError(
                        f"{section}.{name} is {there[name]!r} in the run whose weights are taken, {here[name]!r} does "
                        "not go with them: leave it out"
                    )
                _set(mapping, f"{section}.{name}", there[name])
        return cls.from_mapping(mapping)

    @classmethod
    def of_run(cls, folder: str | Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
        """The settings of a run folder: as `read`, but its `config.yaml` must hold every setting.

        Raises:
            ConfigError: see `read`; also a setting that is missing, lest a default take its place unseen, or a file
                that is not as the run wrote it.
            OSError: there is no such file.
        """
        path = Path(folder) / CONFIG
        mapping = _read_yaml(path)
        writer = _check_seal(path)
        try:
            every = cls.from_mapping(mapping).to_mapping()
        except ConfigError as error:
            raise ConfigError(f"{path}{writer}: {error}") from error
        missing = [
            f"{part}.{name}" for part, names in every.items() for name in names if name not in mapping.get(part, {})
        ]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ConfigError(
                f"{path}{writer} lacks {', '.join(missing[:3])}{more}, but that of a run holds every setting: "
                + ("use that version, or train again" if writer else _CUT)
            )
        config = cls.read(path, overrides)
        root = Path(config.data.root or "")
        if config.data.name == "folder" and (root / "videos").is_dir() and not any(root.glob("features/*.npy")):
            from lac.data.choice import FPS, SIZE

            # A run of before they were chosen names them only where they were given.
            return config.with_data_options({"fps": FPS, "size": SIZE} | config.data.options)
        return config

    def with_data_options(self, options: Mapping[str, Any]) -> TrainConfig:
        """These settings with `options` of the data set among them."""
        return dataclasses.replace(self, data=dataclasses.replace(self.data, options={**self.data.options, **options}))

    def to_mapping(self) -> dict[str, Any]:
        """The nested mapping that `from_mapping` takes back."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """All settings, as `read` takes them."""
        return str(yaml.safe_dump(_plain(self.to_mapping()), sort_keys=False))

    def to_sealed_yaml(self) -> str:
        """The text of the `config.yaml` of a run: below a line with its digest, so that damage is found."""
        text = self.to_yaml()
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"# lac {lac_version()}, sha256:{digest}; take out this line if you change a setting\n{text}"


@contextmanager
def blaming(section: str, *kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds are the fault of a section of the settings: they become a `ConfigError` that names it."""
    try:
        yield
    except kinds as error:
        raise ConfigError(f"section {section}: {error}") from error


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        loaded = _from_yaml(read_text(path, _MOST))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold sections (data, augment, model, loss, train), got {loaded!r:.60}")
    return loaded or {}


def _from_yaml(text: str) -> Any:
    """What YAML says that repeats nothing by a name (`*name`): ten lists of ten times the list before are a few lines.

    Raises:
        ConfigError: it is no YAML, repeats something, or is nested too deeply.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
                what = "a value is repeated by its name" if depth <= _DEEPEST else f"more than {_DEEPEST} levels"
                raise ConfigError(f"{what}; write it out\n{event.start_mark}")
        return yaml.safe_load(text)
    except ConfigError:
        raise
    except Exception as error:  # a number or a date that is none raises whatever Python does
        raise ConfigError(str(error) or type(error).__name__) from error


def _check_seal(path: Path) -> str:
    """The versions, in words, where another one of lac has written the settings of a run.

    Raises:
        ConfigError: they are not as they were written. Where no digest stands above them nothing is known of that.
    """
    seal, _, settings = path.read_bytes().partition(b"\n")
    found = re.match(rb"# lac (\S+), sha256:([0-9a-f]{64})", seal)
    if found is None:
        return ""
    if hashlib.sha256(settings).hexdigest() != found[2].decode():
        raise ConfigError(
            f"{path} is damaged, or has been changed: its digest does not fit; bring the file back, or take out its "
            "first line if the change is yours"
        )
    writer = found[1].decode("ascii", "replace")
    return "" if writer == lac_version() else f", written by lac {writer} (this is lac {lac_version()}),"


def lac_version() -> str:
    """Of lac, as a file of a run says it."""
    import lac

    return lac.__version__


def parse_override(text: str) -> tuple[str, Any]:
    """`"train.lr=3e-4"` as the name and the value, read as YAML.

    Raises:
        ConfigError: it is not of this form.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or "." not in name or not all(name.split(".")):
        raise ConfigError(f"an override must read section.setting=value, as train.steps=200; got {text!r}")
    try:
        return name, _from_yaml(value)
    except ConfigError as error:
        raise ConfigError(f"the value of {name} is not YAML: {value!r}") from error


def _set(mapping: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for key in path:
        if mapping.get(key) is None:
            mapping[key] = {}
        mapping = mapping[key]
        if not isinstance(mapping, dict):
            raise ConfigError(f"{name}: {key} is a single value, not a section")
    mapping[last] = value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _checked(
    section: str, target: Callable[..., Any], given: Mapping[str, Any], skip: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The settings of a section, each one a known argument of `target` and of its type."""
    known = [name for name in inspect.signature(target).parameters if name not in skip]
    hints = typing.get_type_hints(target)
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown setting {section}.{name}{_nearest(str(name), known)}")
    return {name: converted(value, hints.get(name, Any), f"{section}.{name}") for name, value in given.items()}


def _completed(
    section: str, target: Callable[..., Any], given: Mapping[str, Any], skip: tuple[str, ...]
) -> dict[str, Any]:
    """`_checked` with the defaults of `target` filled in."""
    values = _checked(section, target, given, skip)
    parameters = inspect.signature(target).parameters
    return {name: values.get(name, p.default) for name, p in parameters.items() if name not in skip}


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
