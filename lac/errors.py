"""The errors that a user can cause and mend. Any other that reaches a command is a mistake of the program."""

import errno
import os
import re

# Escape sequences begin with one, two of them turn the direction of what follows, and a lone surrogate is no character.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 2000


def printable(text: str) -> str:
    """Text without what a terminal would obey instead of showing it: such characters as Python writes them."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """What a command reports in a line, without a traceback. As text it is `printable` and not longer than a page."""

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 4 :]}"
        return printable(text)


class UsageError(UserError):
    """The command line asks for something that cannot be."""


class ConfigError(UserError, ValueError):
    """A setting that does not exist or has the wrong type or value."""


class DataError(UserError, ValueError):
    """A file or a clip that does not hold what it should."""


class DataTypeError(UserError, TypeError):
    """A clip whose arrays are of the wrong type."""


class CheckpointError(UserError, ValueError):
    """A file of a run folder that is missing, damaged, or of something else."""


class Diverged(UserError, ValueError):
    """The loss or its gradient is no longer finite."""


def how_to_install(extra: str) -> str:
    """What a message says to do about a package that an extra brings; no package index has lac."""
    return f'pip install ".[{extra}]" in a clone of lac'


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory or threads ran out, whatever error the libraries have made of it on its way."""
    while error is not None:
        number, text = getattr(error, "errno", None), str(error)
        # Of a lock that another process has, EAGAIN comes with words of its own.
        lacking = number == errno.ENOMEM or (number == errno.EAGAIN and os.strerror(errno.EAGAIN) in text)
        if lacking or isinstance(error, MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(words in text for words in _NO_ROOM):
            return True
        error = error.__cause__
    return False


_NO_ROOM = (
    "can't allocate memory",  # torch on a CPU
    "out of memory",  # and on a GPU
    "can't start new thread",  # Python
    "bad allocation",  # matplotlib
)


def is_of_machine(error: Exception) -> bool:
    """Whether an error says nothing of the file that was read: there was no memory, or too many files were open.

    A clip is left out for what is wrong with it, never for what a machine lacks at the moment.
    """
    return is_out_of_memory(error) or getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
