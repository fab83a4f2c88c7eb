"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from robustbench_med.testing import Case, parametrize, run_case

#: Networks of the published size would take minutes.
TINY = "width=8,depth=1,heads=2,decoder_width=8,decoder_depth=1"
SETTINGS = dict.fromkeys(("detector/mae", "detector/dram", "purifier/mae-repair"), TINY)


@parametrize("rbmed-detectors", SETTINGS)
def test_conformance(case: Case) -> None:
    run_case(case)
