"""Names the attacks of the libraries that are installed; imports none of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from robustbench_med import AttackSpec, hookimpl

#: What each library offers, by its import name.
SPECS = (
    AttackSpec(
        name="torchattacks",
        names="torchattacks/attacks",
        target="rbmed_peers.from_torchattacks:TorchAttacks",
        summary="an attack of torchattacks: torchattacks:PGD,steps=20",
        title="torchattacks",
        paper="Torchattacks: A PyTorch Repository for Adversarial Attacks",
        venue="arXiv 2020",
        reference="Kim, arXiv:2010.01950",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="pyautoattack",
        target="rbmed_peers.from_pyautoattack:PyAutoAttack",
        summary="the authors' AutoAttack: pyautoattack:standard, or :[apgd-ce,fab-t]",
        title="AutoAttack (authors' code)",
        paper="Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
        venue="ICML 2020",
        reference="Croce & Hein, ICML 2020, arXiv:2003.01690",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="foolbox",
        names="foolbox/attacks",
        target="rbmed_peers.from_foolbox:Foolbox",
        summary="an attack of Foolbox: foolbox:LinfPGD,steps=40",
        title="Foolbox",
        paper="Foolbox Native: Fast Adversarial Attacks to Benchmark the Robustness of Machine "
        "Learning Models in PyTorch, TensorFlow, and JAX",
        venue="JOSS 2020",
        reference="Rauber et al., JOSS 2020, doi:10.21105/joss.02607",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="art",
        names="art/attacks/evasion",
        target="rbmed_peers.from_art:ART",
        summary="an attack of the Adversarial Robustness Toolbox: art:SquareAttack",
        title="ART",
        paper="Adversarial Robustness Toolbox v1.0.0",
        venue="arXiv 2018",
        reference="Nicolae et al., arXiv:1807.01069",
        norms=("linf", "l2", "l1"),
    ),
)


@hookimpl
def rbmed_attacks() -> Iterable[AttackSpec]:
    """One spec for each library that is installed."""
    return [spec for spec in SPECS if find_spec(spec.name)]
