"""The errors that a user can cause, by kind."""


class UsageError(Exception):
    """The command line asks for something that cannot be: exit code 2."""


class ConfigError(ValueError):
    """A setting that does not exist or has the wrong type or value."""
