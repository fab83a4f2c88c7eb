"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_med.testing import Case, parametrize, run_case

#: Networks of the usual size would take longer.
SETTINGS = {
    "model/resnet": "width=8",
    "model/moe": "width=8",
    "model/pytorch": f"source={Path(__file__).parent / 'net.py'}",
    "model/timm": "test_resnet",
    "model/torchvision": "squeezenet1_1",
}


#: Models whose weights or program are needed to build them.
GIVEN = ("model/hf-", "model/object-", "model/torchscript-")


@parametrize("rbmed-models", SETTINGS)
def test_conformance(case: Case) -> None:
    if str(case).startswith(GIVEN):
        pytest.skip("it is built from a file or a module; test_sources.py and test_hugging_face.py try real ones")
    if str(case) == "strategy/pretrained-trains":
        with pytest.raises(AssertionError, match="nothing was learned"):  # as it says
            run_case(case)
    else:
        run_case(case)
