"""Isolates results from global state: random generators, the settings of torch, and those of the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from robustbench_med.plugins.calls import process_kept


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restore torch's settings, so that a library that changes them does not affect the next result.

    Also what `process_kept` restores.
    """
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    grad, warn_only = torch.is_grad_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    try:
        with process_kept():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()) != (
            deterministic,
            warn_only,
        ):  # asked only where it differs, for the call imports torch's compiler, which takes more than a second
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_float32_matmul_precision(products)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global generators; restore them and torch's settings afterwards.

    The library's own code never draws from them; a library behind an attack, or a stochastic model, may.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002 -- the global generator has to be restored
    python_state = random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with settings_kept(), torch.random.fork_rng(devices):
        # `torch.manual_seed` would note a stack trace for each kind of device that is not there.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
