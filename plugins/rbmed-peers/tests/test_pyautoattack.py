"""The authors' AutoAttack behind robustbench-med's interface."""

from __future__ import annotations

import logging
import sys

import pytest
import torch

from robustbench_med import ThreatModel
from robustbench_med.errors import BadParameter, BudgetExceeded, NotDefined

pyautoattack = pytest.importorskip("pyautoattack")

from pyautoattack import checks  # noqa: E402 -- needs the library

from rbmed_peers.from_pyautoattack import NORMS, PyAutoAttack  # noqa: E402
from rbmed_peers.isolation import seed_from  # noqa: E402
from robustbench_med import Stream  # noqa: E402

pytestmark = pytest.mark.usefixtures("globals_untouched")

SMALL = {"n_iter": 5, "n_restarts": 1, "n_queries": 20}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    ("classes", "attacks"),
    [(2, "apgd-ce,fab,square"), (3, "apgd-ce, apgd-dlr, fab-t, square"), (4, "apgd-t,fab-t"), (10, "apgd-t,square")],
)
def test_behaves(behaves, task, classes, attacks, norm):
    params = {name: value for name, value in SMALL.items() if name != "n_queries" or "square" in attacks}
    behaves(PyAutoAttack, attacks, task(classes), norm, **params)


@pytest.mark.parametrize(
    ("version", "norm", "eps"),
    [
        ("standard", "linf", 0.03),  # so large that every image breaks soon
        ("apgd-ce,apgd-t,fab-t,square", "linf", 0.004),
        ("apgd-ce,apgd-t,fab-t,square", "l2", 0.03),
        ("apgd-ce,fab", "l1", 0.4),
    ],
)
def test_equals_a_direct_call_with_the_same_seed(alone, attacked, task, version, norm, eps):
    net, x, y = task(10, n=6)
    own = "," not in version
    small = {} if own else {name: value for name, value in SMALL.items() if "square" in version or name != "n_queries"}
    ours = attacked(PyAutoAttack, version, (net, x, y), norm, eps=eps, **small)
    chosen = {"version": version} if own else {"version": "custom", "attacks": version.split(",")}
    seed = seed_from(Stream.named("attack", 0, torch.arange(6)))
    direct = pyautoattack.AutoAttack(net, norm=norm.capitalize(), eps=eps, seed=seed, **chosen)
    if not own:
        for part in (direct.apgd, direct.apgd_targeted, direct.fab):
            part.n_iter, part.n_restarts = SMALL["n_iter"], SMALL["n_restarts"]
        direct.square.n_queries = SMALL["n_queries"]
        direct.apgd.use_largereps = direct.apgd_targeted.use_largereps = norm == "l1"
    with alone():
        theirs, _ = direct.run_standard_evaluation(x, y)
    assert (net(theirs).argmax(1) != y).any()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", ["standard", "plus"])
@pytest.mark.parametrize("classes", [2, 3, 4, 9])
def test_versions_are_refused_below_ten_classes(attacked, task, version, classes):
    with pytest.raises(NotDefined, match=rf"{version} attacks 9 target classes .*, not {classes}; use autoattack or "):
        attacked(PyAutoAttack, version, task(classes), "linf")


@pytest.mark.parametrize(
    ("attack", "classes", "least"), [("apgd-dlr", 2, 3), ("apgd-t", 2, 4), ("apgd-t", 3, 4), ("rand", 2, 3)]
)
def test_dlr_is_refused_where_the_library_crashes(alone, attacked, task, attack, classes, least):
    net, x, y = task(classes)
    chosen = {"version": attack} if attack == "rand" else {"version": "custom", "attacks": [attack]}
    direct = pyautoattack.AutoAttack(net, eps=1e-5, seed=0, **chosen)
    with alone(), pytest.raises(IndexError):
        direct.run_standard_evaluation(x, y)
    with pytest.raises(NotDefined, match=f"needs {least} classes"):
        attacked(PyAutoAttack, attack, (net, x, y), "linf", eps=1e-5)


@pytest.mark.parametrize(("attack", "classes"), [("apgd-t", 4), ("apgd-t", 9), ("fab-t", 2), ("fab-t", 9)])
def test_nine_targets_crash_the_library_but_not_the_list(alone, attacked, task, attack, classes):
    net, x, y = task(classes)
    direct = pyautoattack.AutoAttack(net, eps=1e-5, seed=0, version="custom", attacks=[attack])
    direct.apgd_targeted.n_iter = direct.fab.n_iter = 2
    direct.fab.n_restarts = 1
    with alone(), pytest.raises(IndexError):
        direct.run_standard_evaluation(x, y)
    attacked(PyAutoAttack, attack, (net, x, y), "linf", eps=1e-5, n_iter=2)
    with pytest.raises(NotDefined, match=f"n_target_classes={classes}, but {classes} classes leave {classes - 1}"):
        attacked(PyAutoAttack, attack, (net, x, y), "linf", n_target_classes=classes)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_square_is_refused_on_sides_it_cannot_tile(alone, attacked, task, norm):
    net, x, y = task(10, side=24)
    direct = pyautoattack.AutoAttack(
        net, norm=norm.capitalize(), eps=1e-5, seed=0, version="custom", attacks=["square"]
    )
    with alone(), pytest.raises(RuntimeError):
        direct.run_standard_evaluation(x, y)
    with pytest.raises(NotDefined, match="side 24"):
        attacked(PyAutoAttack, "square", (net, x, y), norm)


def test_trace_function_logger_and_counters_are_put_back(attacked, task):
    def trace(frame, event, argument):
        return None

    logger = logging.getLogger("auto-attack")
    before, counters, tracing = logger.level, dict(checks.funcs), sys.gettrace()
    sys.settrace(trace)
    try:
        attacked(PyAutoAttack, "apgd-ce", task(2), "linf", n_iter=2)
        after_a_run = sys.gettrace()
        with pytest.raises(BudgetExceeded):
            attacked(PyAutoAttack, "apgd-ce", task(2), "linf", limit=3)
        after_an_error = sys.gettrace()
    finally:
        sys.settrace(tracing)
    assert after_a_run is trace
    assert after_an_error is trace
    assert logger.level == before
    assert checks.funcs == counters


def test_parameters_belong_to_lists():
    PyAutoAttack.Params(attack=["apgd-ce", "fab"], n_iter="20")
    with pytest.raises(BadParameter, match="'n_iter' cannot be given: a version runs as published"):
        PyAutoAttack.Params(attack="standard", n_iter=5)
    with pytest.raises(BadParameter, match="no version or attack 'apgd-c', did you mean 'apgd-ce'"):
        PyAutoAttack.Params(attack="apgd-c,fab")
    with pytest.raises(BadParameter, match="did you mean 'standard'"):
        PyAutoAttack.Params(attack="Standart")


def test_l1_uses_larger_radii_first():
    from rbmed_peers.from_pyautoattack import evaluation

    for norm in NORMS:
        made = evaluation(None, "apgd-ce", ["apgd-ce"], ThreatModel(norm=norm, eps=1.0), 2, 0, "cpu")
        assert made.apgd.use_largereps is made.apgd_targeted.use_largereps is (norm == "l1")
        assert made.fab.n_target_classes == made.apgd_targeted.n_target_classes == 1
