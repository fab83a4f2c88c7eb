"""The strategies of this distribution, and the attack that activates a backdoor."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import AttackSpec, StrategySpec, hookimpl


def _spec(module: str, cls: str, summary: str, reference: str = "") -> StrategySpec:
    return StrategySpec(name=module, target=f"rbmed_fl.strategies.{module}:{cls}", summary=summary, reference=reference)


@hookimpl
def rbmed_strategies() -> Iterator[StrategySpec]:
    """One global model, personalized federations, and the two bounds."""
    yield from _averaging()
    yield from _robust()
    yield from _personalized()
    yield _spec("local", "LocalOnly", "every client trains separately, nothing is sent (lower bound of a federation)")
    yield _spec("centralized", "Centralized", "one model on the pooled images of all clients (upper bound, no privacy)")


@hookimpl
def rbmed_attacks() -> Iterator[AttackSpec]:
    """The trigger of ``malicious=backdoor``."""
    yield AttackSpec(
        name="trigger",
        target="rbmed_fl.trigger:Trigger",
        summary="stamps the trigger of a backdoor; needs eps 1",
        reference="Bagdasaryan et al. 2020, arXiv 1807.00459",
        norms=("linf",),
        access="none",
    )


def _averaging() -> Iterator[StrategySpec]:
    yield _spec(
        "fedavg",
        "FedAvg",
        "one global model, the clients' average weighted by examples",
        "McMahan et al. 2017, arXiv 1602.05629",
    )
    yield _spec(
        "fedprox", "FedProx", "FedAvg whose clients stay near the global model", "Li et al. 2020, arXiv 1812.06127"
    )
    yield _spec("fedavgm", "FedAvgM", "FedAvg with momentum on the server", "Hsu et al. 2019, arXiv 1909.06335")
    yield _spec("fedadam", "FedAdam", "Adam on the server", "Reddi et al. 2021, arXiv 2003.00295")
    yield _spec("fedyogi", "FedYogi", "Yogi on the server", "Reddi et al. 2021, arXiv 2003.00295")


def _robust() -> Iterator[StrategySpec]:
    yield _spec("fedmedian", "FedMedian", "coordinate-wise median (robust)", "Yin et al. 2018, arXiv 1803.01498")
    yield _spec(
        "fedtrimmedavg", "FedTrimmedAvg", "coordinate-wise trimmed mean (robust)", "Yin et al. 2018, arXiv 1803.01498"
    )
    yield _spec(
        "krum", "Krum", "the one update nearest to the others (robust)", "Blanchard et al. 2017, arXiv 1703.02757"
    )
    yield _spec(
        "multikrum",
        "MultiKrum",
        "mean of the updates nearest to the others (robust)",
        "Blanchard et al. 2017, arXiv 1703.02757",
    )
    yield _spec(
        "bulyan",
        "Bulyan",
        "Multi-Krum, then a trimmed mean around the median (robust)",
        "El Mhamdi et al. 2018, arXiv 1802.07927",
    )


def _personalized() -> Iterator[StrategySpec]:
    yield _spec("fedbn", "FedBN", "batch normalisation stays with the client", "Li et al. 2021, arXiv 2102.07623")
    yield _spec("fedper", "FedPer", "the last layers stay with the client", "Arivazhagan et al. 2019, arXiv 1912.00818")
    yield _spec(
        "fedrep",
        "FedRep",
        "the last layers stay, trained before the shared features",
        "Collins et al. 2021, arXiv 2102.07078",
    )
    yield _spec(
        "ditto", "Ditto", "a personal model with a proximal term to the global one", "Li et al. 2021, arXiv 2012.04221"
    )
    yield _spec(
        "apfl", "APFL", "an adaptive mixture of a personal and the global model", "Deng et al. 2020, arXiv 2003.13461"
    )
    yield _spec(
        "fedem",
        "FedEM",
        "several global models, mixed by each client's own weights",
        "Marfoq et al. 2021, arXiv 2108.10252",
    )
    yield _spec(
        "pfeddef", "PFedDef", "FedEM with adversarial training by every client", "Kim et al. 2023, arXiv 2209.08412"
    )
    yield _spec(
        "fedmoe",
        "FedMoE",
        "mixture of experts: experts averaged, gates stay with the client (MedFedPure)",
        "Karami et al. 2025, arXiv 2511.11625",
    )
