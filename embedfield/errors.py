"""Everything embedfield refuses, and why.

    EmbedfieldError
    ├── UnknownModelError      (KeyError)         no card has that name
    ├── CardError              (ValueError)       a card contradicts itself
    ├── InputsError            (ValueError)       an extra input that the model does not take
    ├── WeightsError           (ValueError)       weights that cannot be had, or are not what they should be
    │   ├── ChecksumError                         bytes that differ from what the card promises
    │   └── OfflineError                          a fetch would be needed, and the network is not to be used
    ├── DeviceError            (ValueError)       a device or precision this machine does not have
    ├── GridError              (ValueError)       bounds, a resolution or a window that cannot be
    ├── PlacesError            (ValueError)       places that cannot be read or lie outside the world
    ├── PackingError           (ValueError)       numbers that a storage type cannot hold
    ├── FormatError            (ValueError)       a file that is not a field, or of no known format
    ├── StorageError           (OSError)          a disk that is full, or may not be written
    ├── OutputExistsError      (FileExistsError)  something stands where the result should go
    ├── BusyError              (RuntimeError)     another process is writing there
    └── ClusterError           (RuntimeError)     a cluster that is not there, is lost, or fails at a unit

A message says what was asked, why it cannot be, and what to do; the command
line prints it as one line and exits with 1.
"""


class EmbedfieldError(Exception):
    """Base of every error that embedfield raises on purpose."""

    def __str__(self) -> str:
        """Return the message as it was written (KeyError would quote it)."""
        return " ".join(str(arg) for arg in self.args)


class EmbedfieldWarning(UserWarning):
    """Something is left out, and the run goes on."""


class UnknownModelError(EmbedfieldError, KeyError):
    """No card has the name that was asked for."""


class CardError(EmbedfieldError, ValueError):
    """A card contradicts itself or another card."""


class InputsError(EmbedfieldError, ValueError):
    """A model does not take an input that was given."""


class WeightsError(EmbedfieldError, ValueError):
    """Weights cannot be had, or are not what their card says."""


class ChecksumError(WeightsError):
    """The bytes of a weights file differ from what its card promises."""


class OfflineError(WeightsError):
    """Weights are not in the cache and the network is not to be used."""


class DeviceError(EmbedfieldError, ValueError):
    """This machine does not have the device or precision asked for."""


class GridError(EmbedfieldError, ValueError):
    """Bounds, a resolution or a window that cannot be."""


class PlacesError(EmbedfieldError, ValueError):
    """Places that cannot be read, or lie outside the world."""


class PackingError(EmbedfieldError, ValueError):
    """Numbers that a storage type cannot hold."""


class FormatError(EmbedfieldError, ValueError):
    """A file that is not a field, or is of no format known here."""


class StorageError(EmbedfieldError, OSError):
    """A disk is full, or may not be written."""


class OutputExistsError(EmbedfieldError, FileExistsError):
    """Something stands where the result should go, and it is not the same."""


class BusyError(EmbedfieldError, RuntimeError):
    """Another process is writing to the same place."""


class ClusterError(EmbedfieldError, RuntimeError):
    """A cluster is not there, is lost, or could not do a unit of work."""
