"""What can go wrong that a user can mend, as one tree; a programmer's mistakes stay ValueError and AssertionError.

BenchError                     exit code 1
├── UsageError                 exit code 2: the words of the command are off
├── SpecError                  a run that cannot be certified as asked (n too small for alpha, sigma < 0, ...)
├── MethodError                unknown, or declines the dataset, or breaks the protocol
│   └── PluginError            what the code of a plug-in, a method's or another's, let out without meaning to
├── DataError                  missing, incomplete, corrupt, or other than it should be
├── WeightsError               missing, truncated, of another architecture, with code in them
├── StoreError                 a run folder that holds something else, or cannot be read or written
├── DeviceError                no such device, or not enough memory at the smallest batch
├── TrainingError              a training run that diverged or cannot go on
└── ReportError                rows that cannot stand in one table
"""

from __future__ import annotations


class BenchError(Exception):
    """Anything that a user can mend: the message says what was expected, what came, and what to do."""

    exit_code = 1


class UsageError(BenchError):
    """The words of a command are off."""

    exit_code = 2


class SpecError(BenchError):
    """A run that cannot be certified as asked."""


class MethodError(BenchError):
    """A method that is unknown, declines the dataset, or breaks the protocol."""


class PluginError(MethodError):
    """An exception out of the code of a plug-in, which did not mean to refuse anything."""


class DataError(BenchError):
    """Images or labels that are missing, incomplete, corrupt, or other than they should be."""


class WeightsError(BenchError):
    """Weights that are missing, damaged, unsafe, or of another architecture."""


class StoreError(BenchError):
    """A run folder that holds something else, or cannot be read or written."""


class DeviceError(BenchError):
    """A device that is not there, or too small."""


class TrainingError(BenchError):
    """A training run that diverged or cannot go on."""


class ReportError(BenchError):
    """Rows that cannot stand in one table."""


# What a stranger's method may raise where it is asked for something that it was not written for. Not every exception:
# Ctrl-C and the end of the interpreter must pass.
FAULTS = (
    BenchError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of an exception's message, cut after `most` letters; its type where it has no message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:most]
