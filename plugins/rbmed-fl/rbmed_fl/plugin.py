"""The strategies of this distribution, and the attack that activates a backdoor."""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_med import AttackSpec, StrategySpec, hookimpl


def _spec(
    target: str, summary: str, reference: str = "", paper: str = "", venue: str = "", title: str = "", name: str = ""
) -> StrategySpec:
    """The strategy ``module:Class``; it is called after its class."""
    cls = target.partition(":")[2]
    return StrategySpec(
        name=name or cls.lower(),
        target=f"rbmed_fl.strategies.{target}",
        summary=summary,
        title=title or cls,
        paper=paper,
        venue=venue,
        reference=reference,
    )


STRATEGIES = (
    # One global model.
    _spec(
        "fedavg:FedAvg",
        "one global model, the clients' average weighted by examples",
        "McMahan et al. 2017, arXiv 1602.05629",
        "Communication-Efficient Learning of Deep Networks from Decentralized Data",
        "AISTATS 2017",
    ),
    _spec(
        "fedprox:FedProx",
        "FedAvg whose clients stay near the global model",
        "Li et al. 2020, arXiv 1812.06127",
        "Federated Optimization in Heterogeneous Networks",
        "MLSys 2020",
    ),
    _spec(
        "fedavgm:FedAvgM",
        "FedAvg with momentum on the server",
        "Hsu et al. 2019, arXiv 1909.06335",
        "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
        "arXiv 2019",
    ),
    _spec(
        "adaptive:FedAdam",
        "Adam on the server",
        "Reddi et al. 2021, arXiv 2003.00295",
        "Adaptive Federated Optimization",
        "ICLR 2021",
    ),
    _spec(
        "adaptive:FedYogi",
        "Yogi on the server",
        "Reddi et al. 2021, arXiv 2003.00295",
        "Adaptive Federated Optimization",
        "ICLR 2021",
    ),
    # Robust: they tolerate some Byzantine clients.
    _spec(
        "coordinatewise:FedMedian",
        "coordinate-wise median (robust)",
        "Yin et al. 2018, arXiv 1803.01498",
        "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
        "ICML 2018",
    ),
    _spec(
        "coordinatewise:FedTrimmedAvg",
        "coordinate-wise trimmed mean (robust)",
        "Yin et al. 2018, arXiv 1803.01498",
        "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
        "ICML 2018",
    ),
    _spec(
        "krum:Krum",
        "the one update nearest to the others (robust)",
        "Blanchard et al. 2017, arXiv 1703.02757",
        "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
        "NeurIPS 2017",
    ),
    _spec(
        "krum:MultiKrum",
        "mean of the updates nearest to the others (robust)",
        "Blanchard et al. 2017, arXiv 1703.02757",
        "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
        "NeurIPS 2017",
        title="Multi-Krum",
    ),
    _spec(
        "krum:Bulyan",
        "Multi-Krum, then a trimmed mean around the median (robust)",
        "El Mhamdi et al. 2018, arXiv 1802.07927",
        "The Hidden Vulnerability of Distributed Learning in Byzantium",
        "ICML 2018",
    ),
    # Some layers stay with the client.
    _spec(
        "fedbn:FedBN",
        "batch normalisation stays with the client",
        "Li et al. 2021, arXiv 2102.07623",
        "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
        "ICLR 2021",
    ),
    _spec(
        "fedrep:FedPer",
        "the last layers stay with the client",
        "Arivazhagan et al. 2019, arXiv 1912.00818",
        "Federated Learning with Personalization Layers",
        "arXiv 2019",
    ),
    _spec(
        "fedrep:FedRep",
        "the last layers stay, trained before the shared features",
        "Collins et al. 2021, arXiv 2102.07078",
        "Exploiting Shared Representations for Personalized Federated Learning",
        "ICML 2021",
    ),
    # A personal model beside the global one, or several global ones.
    _spec(
        "ditto:Ditto",
        "a personal model with a proximal term to the global one",
        "Li et al. 2021, arXiv 2012.04221",
        "Ditto: Fair and Robust Federated Learning Through Personalization",
        "ICML 2021",
    ),
    _spec(
        "apfl:APFL",
        "an adaptive mixture of a personal and the global model",
        "Deng et al. 2020, arXiv 2003.13461",
        "Adaptive Personalized Federated Learning",
        "arXiv 2020",
    ),
    _spec(
        "fedem:FedEM",
        "several global models, mixed by each client's own weights",
        "Marfoq et al. 2021, arXiv 2108.10252",
        "Federated Multi-Task Learning under a Mixture of Distributions",
        "NeurIPS 2021",
    ),
    _spec(
        "fedem:PFedDef",
        "FedEM with adversarial training by every client",
        "Kim et al. 2023, arXiv 2209.08412",
        "Characterizing Internal Evasion Attacks in Federated Learning",
        "AISTATS 2023",
        title="pFedDef",
    ),
    _spec(
        "fedmoe:FedMoE",
        "mixture of experts: experts averaged, gates stay with the client (MedFedPure)",
        "Karami et al. 2025, arXiv 2511.11625",
        "MedFedPure: A Medical Federated Framework with MAE-based Detection and Diffusion Purification for "
        "Inference-Time Attacks",
        "arXiv 2025",
    ),
    # The bounds of a federation.
    _spec(
        "bounds:LocalOnly",
        "every client trains separately, nothing is sent (lower bound of a federation)",
        title="Local training",
        name="local",
    ),
    _spec(
        "bounds:Centralized",
        "one model on the pooled images of all clients (upper bound, no privacy)",
        title="Pooled data",
    ),
)


@hookimpl
def rbmed_strategies() -> Iterable[StrategySpec]:
    """One global model, personalized federations, and the two bounds."""
    return STRATEGIES


@hookimpl
def rbmed_attacks() -> Iterable[AttackSpec]:
    """The trigger of ``malicious=backdoor``."""
    yield AttackSpec(
        name="trigger",
        target="rbmed_fl.byzantine.backdoor:Trigger",
        summary="stamps the trigger of a backdoor; needs eps 1",
        title="Backdoor trigger",
        paper="How To Backdoor Federated Learning",
        venue="AISTATS 2020",
        reference="Bagdasaryan et al. 2020, arXiv 1807.00459",
        norms=("linf",),
        access="none",
    )
