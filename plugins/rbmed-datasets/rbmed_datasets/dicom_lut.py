"""The table by which a DICOM file says how its values are shown (VOI LUT, PS3.3 C.11.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def has_table(found: Any) -> bool:
    """Whether the file has such a table."""
    return bool(_item(found, 0))


def shown(values: NDArray[Any], found: Any, frame: int) -> tuple[NDArray[np.float32], float] | None:
    """The values, rescaled ones (H, W), as the first table of the file shows them, and what is white; None without one.

    Raises:
        ValueError: the table is damaged.
    """
    item = _item(found, frame)
    if item is None:
        return None
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = entries or 1 << 16
    if found.get("PixelRepresentation") == 1 and first >= 1 << 15:  # a negative number, read as unsigned
        first -= 1 << 16
    table = _entries(item.LUTData, bits)
    if not 1 <= bits <= 16 or len(table) < entries:
        raise ValueError(f"its VOI LUT has {len(table)} entries of {bits} bits, not {entries} of 8 to 16")
    # Values below the table are shown as its first entry, those above as its last.
    places = (np.rint(values).astype(np.int64) - first).clip(0, entries - 1)
    return table[places].astype(np.float32), float((1 << bits) - 1)


def places(found: Any, frame: int, group: str) -> list[Any]:
    """Where facts of an image stand, what counts first: of an enhanced file in the groups of the frame, or of all."""
    made = [found]
    for sequence, at in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = found.get(sequence) or ()
        if len(groups) > at and groups[at].get(group):
            made.insert(0, groups[at].get(group)[0])
    return made


def _item(found: Any, frame: int) -> Any:
    """The first table of the image."""
    where = places(found, frame, "FrameVOILUTSequence")
    return next((place.VOILUTSequence[0] for place in where if place.get("VOILUTSequence")), None)


def _entries(data: Any, bits: int) -> NDArray[Any]:
    if not isinstance(data, bytes):
        return np.asarray(data, dtype=np.int64).reshape(-1)
    return np.frombuffer(data, "<u2" if len(data) % 2 == 0 else "u1").astype(np.int64)
