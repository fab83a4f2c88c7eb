"""Every check of robustbench_med.testing on one attack of each library.

The attacks chosen have no random start: the libraries draw one start for a whole batch, so an image's result then
depends on the others. pyautoattack has such a start in every attack, and is excepted from those two checks.
"""

from __future__ import annotations

import pytest

from robustbench_med.testing import Case, parametrize, run_case

SETTINGS = {
    "attack/art": "BasicIterativeMethod,max_iter=3",
    "attack/foolbox": "LinfBasicIterativeAttack,steps=3,random_start=false",
    "attack/pyautoattack": "[apgd-ce]",
    "attack/torchattacks": "BIM,steps=3",
}


@parametrize("rbmed-peers", SETTINGS)
def test_conformance(case: Case) -> None:
    if str(case.subject) == "attack/pyautoattack" and case.check.name in ("batch-split", "batch-order"):
        with pytest.raises(AssertionError, match="an image's result depends on"):
            run_case(case)
    else:
        run_case(case)
