"""Lines that a command shows as soon as they are known, before the work that they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=lambda line: None)


@contextmanager
def within(variable: ContextVar[T], value: T) -> Iterator[None]:
    """In the block the variable has the value."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def told(listener: Callable[[str], None]) -> AbstractContextManager[None]:
    """Within it `listener` gets each line."""
    return within(_listener, listener)


def tell(line: str) -> None:
    """Give a line to who listens, if anybody does."""
    _listener.get()(line)
