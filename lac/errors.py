"""The errors that a user can cause and mend. Any other that reaches a command is a mistake of the program."""

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
