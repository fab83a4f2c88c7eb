"""Values of a fixed set are read in any case, and a radius that allows any image is refused, wherever it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import TOY

import robustbench_med as rbmed
from robustbench_med.errors import UsageError
from robustbench_med.grid.cell import cell_of
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.grid.plan import plan
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry


@pytest.mark.parametrize(
    ("upper", "plain"),
    [
        ({"norm": "Linf"}, {"norm": "linf"}),
        ({"norm": "L2", "eps": 0.5}, {"norm": "l2", "eps": 0.5}),
        ({"goal": "Hide-Lesion"}, {"goal": "hide-lesion"}),
        ({"threat": "L2:eps=0.5,goal=Fake-Lesion"}, {"threat": "l2:0.5,goal=fake-lesion"}),
        ({"access": "BPDA"}, {"access": "bpda"}),
        ({"access": ["Ladder:Quick", "Full"]}, {"access": ["ladder:quick", "full"]}),
        ({"stand_in": "Blur"}, {"stand_in": "blur"}),
        ({"evasion": "Joint:0.5"}, {"evasion": "joint:0.5"}),
        ({"diagnostics": "OFF"}, {"diagnostics": "off"}),
        ({"precision": "BF16"}, {"precision": "bf16"}),
        ({"device": "CPU"}, {"device": "cpu"}),
        ({"batch_size": "Auto"}, {"batch_size": "auto"}),
    ],
)
def test_values_of_a_fixed_set_are_read_in_any_case(upper: dict[str, Any], plain: dict[str, Any]) -> None:
    assert build(upper) == build(plain)


def test_names_of_components_and_their_choices_are_read_in_any_case() -> None:
    def cells(**options: object) -> list[str]:
        base = {"dataset": "stripes", "defense": "guarded", "baseline": "", "access": "oblivious"}
        return [repr(cell_of(each)) for each in plan(build({**base, **options}), Registry(files=[TOY]))]

    assert cells(attack="Shift") == cells(attack="shift")
    assert cells(attack="shift", partition="IID:clients=2") == cells(attack="shift", partition="iid:clients=2")
    assert rbmed.load_component("attack", "APGD:loss=DLR").params.loss == "dlr"
    assert parse("My Models/Net.py:Build").params == {"source": "My Models/Net.py", "build": "Build"}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"eps": 8}, "eps 8 is too large for linf: images are in [0, 1]; did you mean 8/255?"),
        ({"eps": [4 / 255, "8"]}, "did you mean 8/255?"),
        ({"eps": "4", "norm": "LINF"}, "did you mean 4/255?"),
        ({"threat": "linf:16"}, "did you mean 16/255?"),
        ({"threat": {"norm": "linf", "eps": 2}}, "did you mean 2/255?"),
        ({"eps": 1.001}, "images are in [0, 1]"),
    ],
)
def test_a_radius_beyond_the_range_of_pixels_is_refused(options: dict[str, Any], part: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(part)) as error:
        build(options)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=re.escape(part)):
        rbmed.evaluate(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_and_a_model_in_python_have_the_same_bound(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("eps = [8]\n")
    with pytest.raises(UsageError, match=rf"--eps in {re.escape(str(file))}: eps 8 .* did you mean 8/255"):
        build({}, file)
    with pytest.raises(UsageError, match="did you mean 8/255"):
        ThreatModel(eps=8)
    with pytest.raises(UsageError, match="did you mean 8/255"):
        rbmed.load_component("strategy", "fedavg:adversarial=[pgd:eps=8]")
    assert build({"eps": 1}) == RunConfig(eps=(1.0,))  # a trigger sets a few pixels to any value


@pytest.mark.parametrize(("norm", "most"), [("l2", 8.0), ("l1", 128.0)])
def test_other_norms_are_bound_by_the_size_of_the_images(norm: str, most: float, tmp_path: Path) -> None:
    ThreatModel(norm, most).check_eps(256)
    with pytest.raises(UsageError, match=f"too large for {norm}: .* did you mean 200/255"):
        ThreatModel(norm, 200).check_eps(256)
    with pytest.raises(UsageError, match=f"too large for {norm}: images are in"):
        rbmed.evaluate(
            registry=Registry(files=[TOY]),
            dataset="stripes",
            defense="guarded",
            baseline="",
            attack="shift",
            access="oblivious",
            norm=norm,
            eps=1e6,
            out=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()
