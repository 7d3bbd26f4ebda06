"""The errors that a user can cause and mend. Any other that reaches a command is a mistake of the program."""


class UserError(Exception):
    """What a command reports in a line, without a traceback."""


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
