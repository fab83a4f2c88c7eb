"""Names this distribution's attacks to robustbench-med; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_med import AttackSpec, hookimpl

SPECS = (
    AttackSpec(
        name="autoattack",
        target="rbmed_attacks.autoattack:AutoAttack",
        summary="the AutoAttack ensemble, adapted to the number of classes",
        reference="Croce & Hein, ICML 2020, arXiv:2003.01690",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="apgd",
        target="rbmed_attacks.apgd:APGD",
        summary="Auto-PGD: step size set by progress; ce, dlr, margin or vote, also targeted",
        reference="Croce & Hein, ICML 2020, arXiv:2003.01690",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="pgd",
        target="rbmed_attacks.pgd:PGD",
        summary="projected gradient descent with a fixed step",
        reference="Madry et al., ICLR 2018, arXiv:1706.06083",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="lee-kim",
        target="rbmed_attacks.pgd:LeeKim",
        summary="PGD with EOT for randomised purifiers: 200 steps, 20 noise draws",
        reference="Lee & Kim, ICCV 2023, arXiv:2303.09051",
        norms=("linf", "l2"),
    ),
    AttackSpec(
        name="mifgsm",
        target="rbmed_attacks.mifgsm:MIFGSM",
        summary="momentum iterative FGSM: equal steps along the accumulated gradients",
        reference="Dong et al., CVPR 2018, arXiv:1710.06081",
        norms=("linf", "l2"),
    ),
    AttackSpec(
        name="momentum",
        target="rbmed_attacks.momentum:Momentum",
        summary="momentum steps of shrinking length that continue from earlier rungs, for systems that draw noise",
        reference="Dong et al., CVPR 2018, arXiv:1710.06081; Athalye et al., ICML 2018, arXiv:1802.00420",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="low-frequency",
        target="rbmed_attacks.low_frequency:LowFrequency",
        summary="momentum steps whose change of the image holds low spatial frequencies only",
        reference="Kassis et al., arXiv:2411.16598",
        norms=("linf", "l2"),
    ),
    AttackSpec(
        name="hfc",
        target="rbmed_attacks.hfc:HFC",
        summary="hides from detectors of features: moves them into a wrong class's distribution",
        reference="Yao et al., MICCAI 2021, arXiv:2012.09501",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="boundary",
        target="rbmed_attacks.boundary:Boundary",
        summary="wrong answers with a small margin, which detectors that compare answers cannot flag",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="fgsm",
        target="rbmed_attacks.fgsm:FGSM",
        summary="one gradient step of length eps",
        reference="Goodfellow et al., ICLR 2015, arXiv:1412.6572",
        norms=("linf", "l2"),
    ),
    AttackSpec(
        name="fab",
        target="rbmed_attacks.fab:FAB",
        summary="Fast Adaptive Boundary: the smallest change that crosses the boundary, also targeted",
        reference="Croce & Hein, ICML 2020, arXiv:1907.02044",
        norms=("linf", "l2", "l1"),
    ),
    AttackSpec(
        name="cw",
        target="rbmed_attacks.cw:CW",
        summary="Carlini & Wagner: the smallest change in L2 by gradient descent",
        reference="Carlini & Wagner, IEEE S&P 2017, arXiv:1608.04644",
        norms=("l2",),
    ),
    AttackSpec(
        name="square",
        target="rbmed_attacks.square:Square",
        summary="Square Attack: random search over squares, guided by scores",
        reference="Andriushchenko et al., ECCV 2020, arXiv:1912.00049",
        norms=("linf", "l2", "l1"),
        access="scores",
    ),
    AttackSpec(
        name="hopskipjump",
        target="rbmed_attacks.hopskipjump:HopSkipJump",
        summary="HopSkipJump: moves along the decision boundary, guided by decisions",
        reference="Chen et al., IEEE S&P 2020, arXiv:1904.02144",
        norms=("linf", "l2"),
        access="decision",
    ),
    AttackSpec(
        name="noise",
        target="rbmed_attacks.controls:Noise",
        summary="control: random noise of the same norm",
        norms=("linf", "l2", "l1"),
        access="none",
    ),
    AttackSpec(
        name="clamp",
        target="rbmed_attacks.controls:ClampControl",
        summary="control: the images themselves, clamped to [0, 1]",
        norms=("linf", "l2", "l1"),
        access="none",
    ),
)


@hookimpl
def rbmed_attacks() -> Iterable[AttackSpec]:
    """The ensemble, gradient attacks, those that see scores or decisions only, and controls that make no query."""
    return SPECS
