"""CUDA computes in full float32 unless TF32 is allowed; the setting is made explicitly and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import grids

from robustbench_med.plugins.registry import Registry
from robustbench_med.runtime.isolation import settings_kept
from robustbench_med.runtime.speed import set_float32

FULL = {"cudnn_allow_tf32": False, "cuda_matmul_allow_tf32": False, "float32_matmul_precision": "highest"}
FAST = {"cudnn_allow_tf32": True, "cuda_matmul_allow_tf32": True, "float32_matmul_precision": "high"}


@pytest.fixture(autouse=True)
def _full() -> Iterator[None]:
    yield
    set_float32()


def now() -> dict[str, Any]:
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    return {"cudnn_allow_tf32": cudnn, "cuda_matmul_allow_tf32": matmul, "float32_matmul_precision": products}


def test_it_is_set_and_kept_from_libraries() -> None:
    set_float32(tf32=True)
    assert now() == FAST
    with settings_kept():
        set_float32()
        assert now() == FULL
    assert now() == FAST


@pytest.fixture(scope="module")
def registry() -> Registry:
    return grids.trained()


@pytest.mark.parametrize("executor", ["local", "local:process=true"])
@pytest.mark.parametrize("tf32", [False, True])
def test_every_process_sets_and_records_it(registry: Registry, tmp_path: Path, executor: str, tf32: bool) -> None:
    set_float32(tf32=not tf32)
    (record,) = grids.run(registry, tmp_path, executor=executor, tf32=tf32)
    assert {name: record.provenance.flags[name] for name in FULL} == (FAST if tf32 else FULL)
    assert bool(record.attack.asked and record.attack.asked.tf32) is tf32
