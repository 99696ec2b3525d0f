"""What can go wrong between an image and a feature table.

Every message is one sentence for the person at the keyboard: what came, what was expected, what to do.
"""

from collections.abc import Sequence


class FeaturesError(Exception):
    """Base of everything that `features` raises on purpose."""


class SourceError(FeaturesError):
    """The images asked for are not there, or are not labelled."""


class DecodeError(FeaturesError):
    """One image cannot be turned into pixels: it goes to the table's ledger."""


class TrunkError(FeaturesError):
    """An unknown backbone or node, or weights that do not fit."""


class DeviceError(FeaturesError):
    """A device that this machine does not have."""


class ClusterError(FeaturesError):
    """No cluster to work on, or one whose workers do not see the same images, tables and networks."""


class TableError(FeaturesError):
    """A feature table, or decoded images, missing, cut short, or not the ones asked for."""


class OutputError(FeaturesError):
    """A file or folder that cannot be written."""


SHOWN = 6
"""How many names an error lists before it says how many more there are."""


def some(names: Sequence[str]) -> str:
    """The first few of `names`, separated by commas, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(count: int, what: str) -> str:
    """The count and the word, in the plural where it is not one.

    >>> counted(1, "image"), counted(1200, "class")
    ('1 image', '1,200 classes')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
