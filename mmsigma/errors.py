"""The errors a user can meet, and how their messages suggest the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches


class MMSigmaError(Exception):
    """Base of every error that mmsigma raises on purpose.

    The message says what was given, what exists and what to do, so the launchers print it without
    a traceback. One positional string argument only: MMEngine's registries raise a copy of it.

    Attributes:
        status: What the launchers exit with.
    """

    status = 1


class UnknownNameError(MMSigmaError, ValueError):
    """A trunk, tuner, model, position or option that does not exist."""


class InvalidSettingError(MMSigmaError, ValueError):
    """A known option with a value that cannot work."""


class InvalidInputError(MMSigmaError, ValueError):
    """A tensor that the model cannot take, e.g. an image smaller than one token."""


class WeightsError(MMSigmaError, RuntimeError):
    """Trunk weights that are missing, unreadable or of another architecture."""


class CheckpointMismatchError(MMSigmaError, RuntimeError):
    """A checkpoint that belongs to another trunk, other adapters or another head."""


class DataError(MMSigmaError, RuntimeError):
    """A dataset that is not where the config says, or whose labels do not fit its classes."""


class NonFiniteLossError(MMSigmaError, RuntimeError):
    """A training loss, weights or a last metric that became infinite or NaN."""

    status = 3


class StoppedError(MMSigmaError, RuntimeError):
    """A run that a signal ended, with all it did so far in a checkpoint."""

    status = 75  # EX_TEMPFAIL: try again


class DiskFullError(MMSigmaError, OSError):
    """A file that could not be written because nothing is left of the disk, or of a quota."""

    status = 74  # EX_IOERR


class LaunchError(MMSigmaError, RuntimeError):
    """Processes that do not find each other, do not fit together, or have lost one of them."""


class NothingToResumeError(MMSigmaError, FileNotFoundError):
    """``--resume`` in a work directory without a checkpoint."""


def unknown(kind: str, given: object, known: Iterable[object], advice: str = '') -> str:
    """Message for a name that does not exist: the nearest matches first, then all there is.

    Args:
        kind: What the name stands for, e.g. ``'tuner'``.
        given: The name that was given.
        known: All valid names; at most 20 are listed.
        advice: A last sentence that says what to do.
    """
    names = [str(name) for name in known]
    close = get_close_matches(str(given), names, n=3, cutoff=0.6)
    hint = f' Did you mean {" or ".join(map(repr, close))}?' if close else ''
    listed = ', '.join(names[:20]) + (f', ... ({len(names)} in all)' if len(names) > 20 else '')
    return f'Unknown {kind} {given!r}.{hint} Known: {listed}.' + (f' {advice}' if advice else '')
