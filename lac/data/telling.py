"""Lines that a command shows as soon as they are known, before the work that they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=lambda line: None)


@contextmanager
def told(listener: Callable[[str], None]) -> Iterator[None]:
    """Within it `listener` gets each line."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(line: str) -> None:
    """Give a line to who listens, if anybody does."""
    _listener.get()(line)
