"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from robustbench_med.testing import Case, parametrize, run_case

#: Rendering takes most of the time.
FEW = "train_patients=2,calibration_patients=2,test_patients=2,slices=2"


@parametrize("rbmed-datasets", {"dataset/brainsim": FEW, "dataset/brainsim2": FEW})
def test_conformance(case: Case) -> None:
    run_case(case)
