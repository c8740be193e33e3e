"""Errors that a person can fix, and the exit code of each class of them.

    KitError                     1  unexpected
      UsageError                 2  the command line
      ConfigError                3  device.yaml or planogram.yaml
      DataError                  4  photos, clips, data sets, run directories
      GateError                  5  a quality gate said no
      BundleError                6  a bundle or a release
      DeviceError                7  a device, camera or drive
      ServiceError               8  a broker or a database

130 is left for an interrupt. `contracts.command.run_command` is the one place that
turns these into exit codes.
"""

from typing import ClassVar


class KitError(Exception):
    """Something a person can fix: what was expected, what came, what to do.

    Args:
        message: What was expected and what was received.
        hint: What to do about it; shown on a line of its own.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(KitError):
    """Arguments that do not go together."""

    exit_code = 2


class ConfigError(KitError):
    """A configuration or planogram that cannot be used."""

    exit_code = 3


class DataError(KitError):
    """Photos, a clip, a data set or a run directory that cannot be used."""

    exit_code = 4


class GateError(KitError):
    """A quality gate said no."""

    exit_code = 5


class BundleError(KitError):
    """A bundle or release that is damaged, foreign or too new."""

    exit_code = 6


class DeviceError(KitError):
    """A device, camera or drive that does not do its work."""

    exit_code = 7


class ServiceError(KitError):
    """A broker or database that refuses or cannot be reached."""

    exit_code = 8
