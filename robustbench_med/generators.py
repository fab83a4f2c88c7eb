"""Keeps the global random generators of Python, NumPy and torch out of results, and results out of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global generators, and put them back as they were afterwards.

    Our own code never draws from them; a library behind an attack, or a model that draws noise, may.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002 -- the global generator is what has to be kept
    python_state = random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
