"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from robustbench_med.testing import Case, parametrize, run_case

#: Networks of the published size would take minutes.
TINY = "width=8,levels=2"
SETTINGS = {f"purifier/{name}": TINY for name in ("bridge", "ddim", "diffpure", "gdmp", "gradual", "one-step")} | {
    "purifier/dae": "width=8",
    "purifier/ddpm": f"{TINY},t_min=4,t_max=12",
    "purifier/majority": f"purifier=[ddim:{TINY}],copies=3",
}


@parametrize("rbmed-purifiers", SETTINGS)
def test_conformance(case: Case) -> None:
    run_case(case)
