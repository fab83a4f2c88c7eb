"""Figures between clients, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from robustbench_med.records.fairness import between
from robustbench_med.records.sections.defense import FederationSection


def test_mean_worst_spread_and_deviation_over_clients() -> None:
    found = between(
        {
            "a": {"clean_accuracy": 0.9, "robust_accuracy": 0.2, "detector_fpr": 0.1, "robust_majority": 0.1},
            "b": {"clean_accuracy": 0.7, "robust_accuracy": 0.4, "detector_fpr": 0.2, "robust_majority": 0.2},
            "c": {"clean_accuracy": 0.8, "robust_accuracy": 0.9, "detector_fpr": 0.3, "robust_majority": 0.3},
        }
    )
    assert set(found) == {"clean_accuracy", "robust_accuracy"}
    clean, robust = found["clean_accuracy"], found["robust_accuracy"]
    assert (clean["worst_client"], clean["worst"], clean["clients"]) == ("b", 0.7, 3)
    assert clean["mean"] == pytest.approx(0.8)
    assert clean["spread"] == pytest.approx(0.2)
    assert clean["std"] == pytest.approx((0.02 / 3) ** 0.5)  # deviations 0.1, -0.1, 0
    assert (robust["worst_client"], robust["worst"]) == ("a", 0.2)
    assert robust["mean"] == pytest.approx(0.5)
    assert robust["std"] == pytest.approx(((0.09 + 0.01 + 0.16) / 3) ** 0.5)


def test_a_client_without_a_figure_is_left_out_of_it() -> None:
    lone = {"clean_sensitivity": None, "robust_specificity": 0.5}
    found = between({"a": lone, "b": {"clean_sensitivity": 1.0}, "c": {"clean_sensitivity": 0.5}})
    assert found["clean_sensitivity"]["clients"] == 2
    assert found["clean_sensitivity"]["mean"] == 0.75
    assert "robust_specificity" not in found  # one client is no comparison
    assert between({"a": {"clean_accuracy": 1.0}}) == {}


def history(metrics: object) -> dict[str, object]:
    return {"parts": {"classifier": {"metrics": metrics}}}


def test_the_rounds_of_a_federation_are_added_up() -> None:
    def client(sent: int, received: int) -> dict[str, int]:
        return {"bytes-sent": sent, "bytes-received": received, "num-examples": 7}

    manifest = history(
        [
            {"round": 1, "seconds": 2.0, "clients": {"a": client(100, 10), "b": client(300, 20)}, "suspected": ["b"]},
            {"round": 2, "seconds": 3.0, "clients": {"a": client(100, 10)}, "suspected": ["a", "b"], "missing": ["b"]},
        ]
    )
    entry = manifest["parts"]["classifier"]["metrics"][1]  # type: ignore[index]
    entry |= {"refused": {"a": "its update is not finite"}, "privacy": {"epsilon": 3.5, "delta": 1e-5}}
    assert FederationSection.of(manifest).model_dump() == {
        "rounds": 2,
        "clients": 2,
        "bytes_sent_per_round": (400 + 100) / 2,
        "bytes_received_per_round": (30 + 10) / 2,
        "seconds": 5.0,
        "suspected": {"a": 1, "b": 2},
        "missing": {"b": 1},
        "refused": {"a": 1},
        "epsilon": 3.5,
        "delta": 1e-5,
    }


@pytest.mark.parametrize("metrics", [[{"loss": 0.1}], [], {"loss": 0.1}, None])
def test_without_a_history_of_rounds_there_are_no_facts(metrics: object) -> None:
    assert FederationSection.of(history(metrics)) is None
    assert FederationSection.of({}) is None
