"""Values as YAML gives them, in the types that a function declares."""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
    try:
        return _as_any(value, hint)
    except _Other:
        raise ConfigError(f"{where} must be {_describe(hint)}, got {value!r}") from None


class _Other(Exception):
    """A value is of another kind."""


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


# What may stand for a kind in YAML, where truth values are no numbers.
_ACCEPTED = {
    bool: bool,
    str: str,
    type(None): type(None),
    int: numbers.Integral,
    Path: str | Path,
    dict: dict,
    Mapping: dict,
}


def _as_any(value: Any, hint: Any) -> Any:
    """`value` in the first kind of a hint that takes it.

    Raises:
        _Other: none does.
    """
    for kind in _alternatives(hint):
        with suppress(_Other):
            return _as(value, kind)
    raise _Other


def _as(value: Any, kind: Any) -> Any:
    """A YAML value in a kind.

    Raises:
        _Other: it is of another kind.
    """
    origin = typing.get_origin(kind) or kind
    if origin is Any:
        return value
    if origin is Literal and value in typing.get_args(kind):
        return value
    if origin is not bool and isinstance(value, bool):
        raise _Other
    if origin is float:
        return _as_float(value)
    if origin in (tuple, list, Sequence) and isinstance(value, list | tuple):
        return _as_list(value, origin, typing.get_args(kind))
    if origin in _ACCEPTED and isinstance(value, _ACCEPTED[origin]):
        return value
    raise _Other


def _as_float(value: Any) -> float:
    """A number, or text that reads as one: YAML 1.1 reads 1e-3 (no dot) as text."""
    try:
        number = float(value) if isinstance(value, numbers.Real | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise _Other
    return number


def _as_list(value: list[Any] | tuple[Any, ...], origin: Any, kinds: tuple[Any, ...]) -> Any:
    """`_as_any` for a list of `kinds[0]`, or for a tuple of just these kinds."""
    if not kinds:
        return value
    if origin is not tuple or kinds[1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise _Other
    return type(value)(_as_any(item, kind) for item, kind in zip(value, kinds, strict=True))


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
