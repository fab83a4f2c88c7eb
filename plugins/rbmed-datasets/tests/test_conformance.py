"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

import torch

import robustbench_med as rbmed
from robustbench_med.testing import Case, parametrize, run_case

#: Rendering takes most of the time.
FEW = "train_patients=2,calibration_patients=2,test_patients=2,slices=2"


def _own() -> rbmed.OwnData:
    """Images in memory, in all three splits."""
    pairs = [(torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(n)), [0, 1, 0, 1]) for n in range(3)]
    return rbmed.own_data(pairs[0], train=pairs[1], calibration=pairs[2], lesion="class 1")


@parametrize(
    "rbmed-datasets",
    {"dataset/brainsim": FEW, "dataset/brainsim2": FEW, "dataset/own": f"source={_own().key}"},
)
def test_conformance(case: Case) -> None:
    run_case(case)
