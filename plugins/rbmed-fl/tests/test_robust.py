"""Robust aggregation: known updates merged by hand, outliers, and too few clients."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from rbmed_fl.engines.inprocess import InProcessGrid, acting_as, client_contexts
from rbmed_fl.robust import outliers
from rbmed_fl.strategies.coordinatewise import FedMedian, FedTrimmedAvg
from rbmed_fl.strategies.krum import Bulyan, Krum, MultiKrum, krum_scores
from robustbench_med import TrainJob
from robustbench_med.errors import HarnessError, UsageError

SHORT = {"rounds": 3, "local_epochs": 2, "batch_size": 8}
ROBUST = [FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan]


# --- robust aggregation: known updates ---


@pytest.fixture
def merge(linear):
    """Merges given weights (n, d) as one array of a model that had ``sent``; returns it and the suspects."""

    def run(federation, weights, sent=None, examples=None):
        weights = np.asarray(weights, dtype=np.float32)
        sent = np.zeros(weights.shape[1], np.float32) if sent is None else np.asarray(sent, np.float32)
        count = len(weights)
        aggregator = federation.aggregator(
            frozenset({"w"}),
            min_train_nodes=count,
            min_available_nodes=count,
            fraction_evaluate=0.0,
            train_metrics_aggr_fn=lambda replies, weight: MetricRecord(),
        )
        grid = InProcessGrid(None, client_contexts([str(index) for index in range(count)]))
        with acting_as(1):
            requests = aggregator.configure_train(
                1, ArrayRecord({"w": Array(sent)}), ConfigRecord({"rounds-before": 0}), grid
            )
            replies = []
            for index, request in enumerate(sorted(requests, key=lambda message: message.metadata.dst_node_id)):
                request.metadata.__dict__["_message_id"] = str(index)
                metrics = {"partition-id": index, "num-examples": (examples or [1] * count)[index]}
                arrays = ArrayRecord({"w": Array(weights[index])})
                content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
                with acting_as(request.metadata.dst_node_id):
                    replies.append(Message(content, reply_to=request))
            merged, _ = aggregator.aggregate_train(1, replies)
        return merged["w"].numpy(), federation.suspects(aggregator)

    return run


def made(strategy, **params):
    return strategy(strategy.Params(**params))


CROWD = [[0.0, 1.0], [0.1, 0.9], [-0.11, 1.1], [0.06, 1.0], [0.0, 1.05], [-0.04, 0.95], [9.0, -9.0]]


def test_median_by_hand(merge):
    merged, suspects = merge(made(FedMedian), CROWD)
    np.testing.assert_allclose(merged, [0.0, 1.0], atol=1e-6)
    assert suspects == [6]


def test_trimmed_mean_by_hand(merge):
    merged, suspects = merge(made(FedTrimmedAvg, trim=0.15), CROWD)  # one at either end
    np.testing.assert_allclose(merged, [(-0.04 + 0.06 + 0.1) / 5, (0.9 + 0.95 + 1 + 1 + 1.05) / 5], atol=1e-6)
    assert suspects == [6]


def test_krum_picks_the_one_nearest_to_the_others(merge):
    merged, suspects = merge(made(Krum, byzantine=2), CROWD)
    # Three nearest others: [0, 1] has them at squared distances 0.0025, 0.0036 and 0.0041.
    np.testing.assert_allclose(merged, [0.0, 1.0], atol=1e-6)
    assert suspects == [6]


def test_multikrum_averages_the_nearest_by_examples(merge):
    examples = [10, 1, 1, 30, 20, 40, 500]
    merged, suspects = merge(made(MultiKrum, byzantine=2, select=2), CROWD, examples=examples)
    scores = krum_scores(np.array(CROWD), 2)
    first, second = np.argsort(scores)[:2]
    a, b = examples[first], examples[second]
    expected = (a * np.array(CROWD[first]) + b * np.array(CROWD[second])) / (a + b)
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    assert suspects == [6]


def test_multikrum_selects_n_minus_f_minus_2_by_default(merge):
    merged, _ = merge(made(MultiKrum, byzantine=1), CROWD)
    chosen = np.argsort(krum_scores(np.array(CROWD), 1))[:4]
    np.testing.assert_allclose(merged, np.array(CROWD)[chosen].mean(0), atol=1e-6)


def test_bulyan_by_hand(merge):
    merged, suspects = merge(made(Bulyan, byzantine=1), CROWD)
    # 5 of 7 selected: without the Byzantine and one of the two farthest honest ones; then the 3 nearest their median.
    chosen = np.array(CROWD)[np.argsort(krum_scores(np.array(CROWD), 1))[:5]]
    nearest = np.argsort(np.abs(chosen - np.median(chosen, 0)), axis=0, kind="stable")[:3]
    np.testing.assert_allclose(merged, np.take_along_axis(chosen, nearest, 0).mean(0), atol=1e-6)
    assert suspects == [6]


def test_krum_scores_by_hand():
    points = np.array([[0.0], [1.0], [3.0], [7.0], [20.0]])
    # f = 1: squared distances to the two nearest others.
    np.testing.assert_allclose(krum_scores(points, 1) ** 2, [1 + 9, 1 + 4, 4 + 9, 16 + 36, 169 + 289])


@pytest.mark.parametrize("strategy", ROBUST)
def test_merging_does_not_depend_on_the_weights_of_the_model(strategy, merge):
    """Far from the origin, float32 distances between weights are rounding errors."""
    near, _ = merge(made(strategy), np.array(CROWD) / 64)
    far, suspects = merge(made(strategy), np.array(CROWD) / 64 + 4096, sent=[4096, 4096])
    np.testing.assert_allclose(far - 4096, near, atol=1e-3)
    assert suspects == [6]


@pytest.mark.parametrize("strategy", ROBUST)
def test_the_largest_numbers_are_tolerated(strategy, merge):
    with np.errstate(over="ignore", invalid="ignore"):
        merged, suspects = merge(made(strategy), [*CROWD[:6], [3e38, -3e38]])
    assert np.abs(merged - [0, 1]).max() < 0.11
    assert suspects == [6]


def test_outliers_follow_the_documented_rule():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])  # median 4, MAD 2
    limit = 4 + 4 * 1.4826 * 2
    assert outliers(np.append(values[:-1], limit - 0.01)) == []
    assert outliers(np.append(values[:-1], limit + 0.01)) == [6]
    assert outliers(np.array([1.0, 1, 1, 1, 1.19])) == []  # a spread of less than a twentieth counts as that
    assert outliers(np.array([1.0, 1, 1, 1, 1.21])) == [4]
    assert outliers(np.array([1.0, 1, 1, 50])) == []  # too few values
    assert outliers(np.array([1.0, 1, 1, 1, np.nan])) == [4]
    assert outliers(np.zeros(6)) == []


@pytest.mark.parametrize("strategy", ROBUST)
def test_no_client_is_suspected_among_equal_ones(strategy, merge):
    _, suspects = merge(made(strategy), CROWD[:1] * 7)
    assert suspects == []


# --- too few clients ---


@pytest.mark.parametrize(
    ("strategy", "params", "message"),
    [
        (Krum, {"byzantine": 1}, r"krum with byzantine=1 needs at least 5 clients \(2 f \+ 3\), and there are 3"),
        (MultiKrum, {"byzantine": 2}, r"byzantine=2 needs at least 7 clients .* valid: byzantine=0 to 0"),
        (Bulyan, {"byzantine": 1}, r"bulyan with byzantine=1 needs at least 7 clients \(4 f \+ 3\), and there are 3"),
        (MultiKrum, {"select": 4}, "select=4 has 3 clients; valid: 1 to 3"),
        (FedTrimmedAvg, {"trim": 0.2}, "trim=0.2 cuts off no client of 3; it needs at least 5"),
    ],
)
def test_too_few_clients_is_an_error_before_training(strategy, params, message, linear, clients):
    with pytest.raises(UsageError, match=message):
        made(strategy, **params).train(linear, clients, TrainJob())
    two = {name: clients[name] for name in ("north", "south")}
    if strategy in (Krum, MultiKrum, Bulyan):
        with pytest.raises(UsageError, match=r"needs at least 3 clients .* no value is valid for so few"):
            made(strategy).train(linear, two, TrainJob())


@pytest.mark.parametrize(("strategy", "needed"), [(Krum, 5), (MultiKrum, 5), (Bulyan, 7)])
def test_too_few_replies_is_an_error_in_the_round(strategy, needed, merge):
    with pytest.raises(HarnessError, match=f"byzantine=1 needs at least {needed} clients .* there are {needed - 1}"):
        merge(made(strategy, byzantine=1), CROWD[: needed - 1])
    merge(made(strategy, byzantine=1), CROWD[:needed])


@pytest.mark.parametrize("strategy", ROBUST)
def test_defaults_work_with_four_clients(strategy, mixture, clients):
    four = clients | {"wide": clients["south"]}
    result = strategy(strategy.Params(**SHORT)).train(mixture, four, TrainJob())
    assert all(value.isfinite().all() for value in result.shared.values())
    assert all(result.shared[name].min() > 0 for name in result.shared if name.endswith("running_var"))
    assert all("suspected" not in entry for entry in result.history)
