"""Values as YAML gives them, in the types that a function declares."""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lac.errors import ConfigError


def checked_options(loader: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a data set, each of the type that its loader declares; where it declares none, as they are.

    Raises:
        ConfigError: a value has another type.
    """
    try:
        hints = typing.get_type_hints(loader)
    except NameError:  # types that only a type checker imports
        hints = {}
    return {
        name: converted(value, hints[name], f"data.options.{name}") if name in hints else value
        for name, value in options.items()
    }


def converted(value: Any, hint: Any, where: str) -> Any:
    """`value`, as YAML gives it, in the type that a hint declares; `where` names it in the message.

    Raises:
        ConfigError: it has another type.
    """
    for kind in _alternatives(hint):
        accepted, converted = _as(value, kind)
        if accepted:
            return converted
    raise ConfigError(f"{where} must be {_describe(hint)}, got {value!r}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _as(value: Any, kind: Any) -> tuple[bool, Any]:
    """Whether a YAML value is of a kind, and the value in that kind."""
    origin = typing.get_origin(kind) or kind
    if origin is Any:
        return True, value
    if origin is Literal:
        return value in typing.get_args(kind), value
    if origin is bool or origin is type(None) or origin is str:
        return isinstance(value, origin), value
    if isinstance(value, bool):
        return False, value
    if origin is int:
        return isinstance(value, numbers.Integral), value
    if origin is float:
        # YAML 1.1 reads 1e-3 (no dot) as text.
        try:
            return isinstance(value, numbers.Real | str) and not math.isnan(float(value)), float(value)
        except (TypeError, ValueError):
            return False, value
    if origin is Path:
        return isinstance(value, str | Path), value
    if origin in (tuple, list, Sequence):
        return _as_list(value, origin, typing.get_args(kind))
    if origin in (dict, Mapping):
        return isinstance(value, dict), value
    return False, value


def _as_list(value: Any, origin: Any, kinds: tuple[Any, ...]) -> tuple[bool, Any]:
    """`_as` for a list of `kinds[0]`, or for a tuple of just these kinds."""
    if not isinstance(value, list | tuple):
        return False, value
    if origin is not tuple or kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if kinds and len(kinds) != len(value):
        return False, value
    found = [_as(item, kind) for item, kind in zip(value, kinds, strict=True)] if kinds else []
    converted = [item for _, item in found] if kinds else value
    return all(accepted for accepted, _ in found), type(value)(converted)


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    words = []
    for kind in _alternatives(hint):
        origin = typing.get_origin(kind) or kind
        if origin is Literal:
            words += [repr(choice) for choice in typing.get_args(kind)]
        elif origin in names:
            words.append(names[origin])
        elif origin in (tuple, list, Sequence):
            words.append("a list")
        elif origin in (dict, Mapping):
            words.append("a mapping")
    return " or ".join(words)
