"""References are read and components built, with every mistake named in one line."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter
from robustbench_med.plugins.components import all_params, create, params_passed, read_choice, resolve, valid_values
from robustbench_med.plugins.entries import Plugin
from robustbench_med.plugins.references import FIRST, PartRef, format_ref, fraction, parse
from robustbench_med.plugins.registry import Registry

HERE = sys.modules[__name__]


class Tunable(rbmed.Attack):
    class Params(rbmed.Params):
        steps: int = rbmed.Field(10, ge=1, description="Steps.")
        step: float = rbmed.Field(0.1, gt=0, le=1, description="Step.")
        limit: float | None = rbmed.Field(None, description="Limit.")
        loss: str = rbmed.Field("ce", pattern="ce|margin", description="Loss.")
        widths: tuple[int, ...] = rbmed.Field((8,), description="Widths.")
        radii: list[float] = rbmed.Field([1.0], description="Radii.")
        eot: bool = rbmed.Field(False, description="EOT.")
        part: str = rbmed.Field("mae", description="A part.")

    def run(self, model, x, y, threat, budget, rng):
        return x


@rbmed.hookimpl
def rbmed_attacks():
    yield rbmed.AttackSpec(name="tunable", target=f"{__name__}:Tunable", summary="Takes parameters")


@pytest.fixture
def registry(monkeypatch) -> Registry:
    monkeypatch.setitem(sys.modules, __name__, HERE)  # importlib mode does not leave test modules importable
    registry = Registry(only=())
    registry.add(HERE, Plugin("here", "rbmed-here", "1.0"))
    return registry


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("apgd", "apgd", {}),
        ("rbmed-attacks/apgd:steps=20", "rbmed-attacks/apgd", {"steps": "20"}),
        (" apgd : steps = 20 , loss=margin ", "apgd", {"steps": "20", "loss": "margin"}),
        ("g:detector=mae:score=x", "g", {"detector": "mae:score=x"}),
        ("g:d=[mae:score=x,mask=0.5],fpr=1/20", "g", {"d": "mae:score=x,mask=0.5", "fpr": "1/20"}),
        ("g:d=[a:b=[c:d=1,e=2],f=3]", "g", {"d": "a:b=[c:d=1,e=2],f=3"}),
        ("g:w=[1,2]", "g", {"w": "1,2"}),
        ("torchattacks:PGD,steps=20", "torchattacks", {"": "PGD", "steps": "20"}),
        ("ladder:full", "ladder", {"": "full"}),
        ("g:w=[[1,2],[3]]", "g", {"w": "[1,2],[3]"}),
    ],
)
def test_parse(text, name, params):
    ref = parse(text)
    assert (ref.name, ref.params) == (name, params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not start with a name"),
        (":a=1", "does not start with a name"),
        ("a b:c=1", "does not start with a name"),
        ("a:", "is not key=value"),
        ("a:c=1,b", "'b' is not key=value"),
        ("a:b=", "'b=' is not key=value"),
        ("a:b=1,", "is not key=value"),
        ("a:b=1,b=2", "'b' is given twice"),
        ("a:b=[1,2", "square brackets do not match"),
        ("a:b=1],c=[2", "square brackets do not match"),
    ],
)
def test_parse_refuses(text, message):
    with pytest.raises(BadParameter, match=message):
        parse(text)


nested = st.recursive(
    st.text("abc019./-", min_size=1),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda items: f"[{','.join(items)}]"),
)


@given(st.dictionaries(st.sampled_from("abcdef"), nested, min_size=1))
def test_bracketed_values_come_back_whole(params):
    text = "x:" + ",".join(f"{key}=[{value}]" for key, value in params.items())
    assert parse(text).params == params


@pytest.mark.parametrize(("text", "value"), [("4/255", 4 / 255), ("0.03", 0.03), ("1e-3", 1e-3), (" 1 / 4 ", 0.25)])
def test_fraction(text, value):
    assert fraction(text) == value


@pytest.mark.parametrize("text", ["", "4/", "/4", "4/0", "1/2/3", "four"])
def test_fraction_refuses(text):
    with pytest.raises(BadParameter, match="is not a number or a fraction such as 4/255"):
        fraction(text)


def test_text_becomes_what_each_field_is(registry):
    text = "tunable:steps=20,step=1/4,limit=none,widths=[64,32],radii=[1/2,3],eot=true,part=[mae:score=x,m=1]"
    params = create(registry, "attack", text).params
    assert (params.steps, params.step, params.limit, params.eot) == (20, 0.25, None, True)
    assert (params.widths, params.radii, params.part) == ((64, 32), [0.5, 3.0], "mae:score=x,m=1")
    assert create(registry, "attack", "tunable:limit=3/4").params.limit == 0.75
    assert create(registry, "attack", "tunable:widths=7").params.widths == (7,)


def test_values_from_python_and_toml_are_taken_as_they_are(registry):
    ref = rbmed.PartRef("tunable", {"steps": 3, "widths": [1, 2], "step": "1/2"})
    params = resolve(registry, "attack", ref).params
    assert (params.steps, params.widths, params.step) == (3, (1, 2), 0.5)


def test_what_was_passed_can_be_told_from_defaults(registry):
    params = create(registry, "attack", "tunable:steps=10").params
    assert params_passed(params) == {"steps": 10}
    assert all_params(params) == {
        "steps": 10,
        "step": 0.1,
        "limit": None,
        "loss": "ce",
        "widths": [8],
        "radii": [1.0],
        "eot": False,
        "part": "mae",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stpes=1", r"unknown parameter 'stpes', did you mean 'steps'\? valid: steps, step, limit, loss"),
        ("zzz=1", r"unknown parameter 'zzz'; valid: steps"),
        ("steps=0", r"steps='0' should be greater than or equal to 1; valid: int >= 1"),
        ("steps=many", r"steps='many' should be a valid integer.*; valid: int >= 1"),
        ("step=4/", r"'4/' is not a number or a fraction"),
        ("step=2", r"step='2' should be less than or equal to 1; valid: float > 0, <= 1"),
        ("steps=0,step=0", r"steps=.*; step="),
    ],
)
def test_bad_parameters_are_named_in_one_line(registry, text, message):
    with pytest.raises(BadParameter, match=rf"^attack 'tunable' \(rbmed-here 1.0\): .*{message}") as caught:
        create(registry, "attack", f"tunable:{text}")
    assert "\n" not in str(caught.value)


def test_valid_values_are_told_in_words():
    shown = {name: valid_values(info) for name, info in Tunable.Params.model_fields.items()}
    assert shown["step"] == "float > 0, <= 1"
    assert shown["limit"] == "float | none"
    assert shown["widths"] == "[int, ...]"


def test_a_first_value_without_key_is_the_first_parameter(registry):
    made = create(registry, "attack", "tunable:7")
    assert params_passed(made.params) == {"steps": 7}
    with pytest.raises(BadParameter, match="'7' is not key=value"):
        create(registry, "attack", "tunable:7,steps=3")


@pytest.mark.parametrize(
    "params",
    [
        {"widths": [1, 2]},
        {"widths": (8,)},
        {"radii": [0.5, 1.0]},
        {"limit": None},
        {"limit": 1.5},
        {"eot": True},
        {FIRST: 3, "part": "mae:score=[x:y=1,z=2]"},
        {"part": "a:b"},
    ],
)
def test_formatted_parameters_are_read_back_unchanged(registry, params):
    text = format_ref(PartRef("tunable", params))
    assert resolve(registry, "attack", text).params == resolve(registry, "attack", PartRef("tunable", params)).params


class Small(rbmed.Params):
    count: int = rbmed.Field(1, ge=1, description="A count.")
    share: float = rbmed.Field(0.5, description="A share.")


def test_a_choice_is_read_with_its_parameters():
    assert read_choice("--mode", "small:share=1/4", {"small": Small}) == ("small", Small(share=0.25))
    assert read_choice("--mode", PartRef("small", {FIRST: "3"}), {"small": Small}) == ("small", Small(count=3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smal", "unknown --mode 'smal', did you mean 'small'? valid: none, small"),
        ("small:count=0", "--mode small: count='0' should be greater than or equal to 1; valid: int >= 1"),
        ("small:cuont=2", "--mode small: unknown parameter 'cuont', did you mean 'count'? valid: count, share"),
        ("small:count=2,count=3", "--mode: 'small:count=2,count=3': parameter 'count' is given twice"),
    ],
)
def test_a_wrong_choice_is_one_line(text, message):
    with pytest.raises(BadParameter) as caught:
        read_choice("--mode", text, {"small": Small}, others=("none",))
    assert str(caught.value) == message
