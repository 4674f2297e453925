"""Errors a user can do something about; each knows the exit code of the command it ends."""


class MedsslError(Exception):
    """Base of every expected failure; its message is one sentence that says what to do.

    Attributes:
        exit_code: What the command line exits with when this error reaches it.
    """

    exit_code = 1


class UsageError(MedsslError):
    """The command or its arguments cannot be carried out as given."""

    exit_code = 2


class ConfigError(UsageError):
    """A config holds an unknown field or a value that does not fit; the message names the field."""


class ScanError(MedsslError):
    """One scan cannot be used; the message is the reason, without the path.

    Workflows catch it, write the scan to ``skipped.csv`` and go on.
    """


class NoUsableScanError(MedsslError):
    """Not one scan of the input can be used."""

    exit_code = 3


class SkippedScansError(MedsslError):
    """The work is done, some scans were skipped, and the user asked to be strict about that."""

    exit_code = 4


class DivergedError(MedsslError):
    """The loss became NaN or infinite and the run stopped."""

    exit_code = 5


class InterruptedRunError(MedsslError):
    """The user or the system asked the run to stop; it was saved and the message says how to go on."""

    exit_code = 130


class CheckpointError(MedsslError):
    """A checkpoint or weights file cannot be read, or does not fit the network it is meant for."""
