"""Near-duplicates: images that are copies of one another up to brightness, contrast, sharpening or compression.

Public collections repeat images. A near-duplicate of a training image in the test split would measure memorisation, so
near-duplicates are grouped first and the groups are split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Single-precision products have errors of about 1e-6: candidates are within this margin, and are checked in double.
_MARGIN = 1e-4
_CHUNK = 1024


def _standardised(images: NDArray[Any]) -> torch.Tensor:
    """Rows of zero mean and unit length, float64 (N, pixels); constant images become zeros, without near-duplicates."""
    rows = torch.from_numpy(images).flatten(1).to(torch.float64)
    rows -= rows.mean(dim=1, keepdim=True)
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(1e-9))


def near_duplicate_pairs(
    images: NDArray[Any], threshold: float, advance: Callable[[int], None] = lambda steps: None
) -> NDArray[np.int64]:
    """All pairs whose Pearson correlation over pixels exceeds ``threshold``.

    Args:
        images: (N, H, W) of any type.
        threshold: correlation in (0, 1).
        advance: called with the number of images compared, after each chunk.

    Returns:
        int64 (P, 2), first index smaller, in lexicographic order.
    """
    exact = _standardised(images)
    rough = exact.to(torch.float32)
    found = [torch.empty((0, 2), dtype=torch.int64)]
    for start in range(0, len(rough), _CHUNK):
        # Only the part right of the diagonal: the matrix is symmetric.
        products = rough[start : start + _CHUNK] @ rough[start:].T
        pairs = torch.nonzero(products.triu_(diagonal=1) > threshold - _MARGIN) + start
        for first in range(0, len(pairs), _CHUNK):
            part = pairs[first : first + _CHUNK]
            found.append(part[(exact[part[:, 0]] * exact[part[:, 1]]).sum(dim=1) > threshold])
        advance(min(_CHUNK, len(rough) - start))
    return torch.cat(found).numpy()


def above(images: NDArray[Any], pairs: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Those of ``pairs`` whose correlation exceeds ``threshold``."""
    exact = _standardised(images)
    kept = [
        (exact[part[:, 0]] * exact[part[:, 1]]).sum(dim=1).numpy() > threshold
        for start in range(0, len(pairs), _CHUNK)
        if len(part := pairs[start : start + _CHUNK])
    ]
    return pairs[np.concatenate(kept)] if kept else pairs


def groups(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Group ids (count,), 0 ... G-1: images linked by a chain of ``pairs`` share one."""
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def twins_across(pairs: NDArray[np.int64], part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which images of ``part`` (bool, (N,)) have a twin outside it: bool (N,)."""
    first, second = pairs[:, 0], pairs[:, 1]
    leaked = np.zeros(len(part), dtype=bool)
    leaked[first[part[first] & ~part[second]]] = True
    leaked[second[part[second] & ~part[first]]] = True
    return leaked
