"""The strategies this distribution offers."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import StrategySpec, hookimpl


@hookimpl
def rbmed_strategies() -> Iterator[StrategySpec]:
    yield StrategySpec(
        name="fedavg",
        target="rbmed_fl.strategies.fedavg:FedAvg",
        summary="one global model, the average of the clients' weighted by examples (Flower's FedAvg)",
        reference="McMahan et al. 2017, arXiv 1602.05629",
    )
    yield StrategySpec(
        name="fedmoe",
        target="rbmed_fl.strategies.fedmoe:FedMoE",
        summary="personalized mixture of experts: experts averaged, gates stay with the client (MedFedPure)",
        reference="Karami et al. 2025, arXiv 2511.11625",
    )
    yield StrategySpec(
        name="local",
        target="rbmed_fl.strategies.local:Local",
        summary="every client trains alone, nothing is sent (lower bound of a federation)",
    )
    yield StrategySpec(
        name="centralized",
        target="rbmed_fl.strategies.centralized:Centralized",
        summary="one model on the pooled images of all clients (upper bound, no privacy)",
    )
