"""Everything robustbench-med raises on purpose.

::

    RbmedError
    ├── UsageError            the user asked for something that cannot be: exit code 2
    │   ├── UnknownName       no plugin offers that name
    │   ├── AmbiguousName     two distributions offer that name
    │   ├── BadParameter      a parameter is unknown, of the wrong type or out of range
    │   ├── NotDefined        an attack or a rung does not exist for this system: the cell is skipped, with the reason
    │   ├── BadConfig         a configuration file cannot be read
    │   ├── DataError         a data root is missing, an image unreadable, a class empty
    │   ├── WeightsError      weights are absent, corrupt or not safetensors
    │   └── DeviceError       a device was asked for that is not there
    └── HarnessError          a cell broke a rule of evaluation: the cell fails, the run goes on
        ├── OutsideThreatModel  an adversarial image left the ball or [0, 1]
        └── BudgetExceeded      an attack asked for more work than its budget: it is stopped, its best images are used

A message is one line that names the thing, where it came from and what would be valid.
"""

from __future__ import annotations


class RbmedError(Exception):
    """Base class: everything robustbench-med raises on purpose."""


class UsageError(RbmedError):
    """The request cannot be carried out as written (exit code 2)."""


class UnknownName(UsageError):
    """No plugin offers the name."""


class AmbiguousName(UsageError):
    """More than one distribution offers the name; qualify it as ``distribution/name``."""


class BadParameter(UsageError):
    """A parameter is unknown, of the wrong type or out of range."""


class NotDefined(UsageError):
    """An attack or a rung of the ladder does not exist for this system; the message names the alternative."""


class BadConfig(UsageError):
    """A configuration file cannot be read."""


class DataError(UsageError):
    """A data root is missing, an image is unreadable, or a class is empty."""


class WeightsError(UsageError):
    """Weights are absent, corrupt, or stored in a format that could run code."""


class DeviceError(UsageError):
    """The device asked for is not there."""


class HarnessError(RbmedError):
    """A cell broke a rule of evaluation; it becomes a failed record."""


class OutsideThreatModel(HarnessError):
    """An adversarial image left the norm ball or the range [0, 1]."""


class BudgetExceeded(HarnessError):
    """An attack asked for more work than its budget allows; it ends there, and its best images so far are used."""
