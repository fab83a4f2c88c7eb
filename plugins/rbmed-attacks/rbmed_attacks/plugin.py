"""Names this distribution's attacks to robustbench-med; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import AttackSpec, hookimpl


@hookimpl
def rbmed_attacks() -> Iterator[AttackSpec]:
    """The gradient attacks, and the controls that look at nothing."""
    yield AttackSpec(
        name="apgd",
        target="rbmed_attacks.apgd:APGD",
        summary="Auto-PGD: step size set by progress; ce, dlr or margin, also targeted",
        reference="Croce & Hein, ICML 2020, arXiv:2003.01690",
    )
    yield AttackSpec(
        name="pgd",
        target="rbmed_attacks.pgd:PGD",
        summary="projected gradient descent with a fixed step",
        reference="Madry et al., ICLR 2018, arXiv:1706.06083",
    )
    yield AttackSpec(
        name="fgsm",
        target="rbmed_attacks.fgsm:FGSM",
        summary="one gradient step of length eps",
        reference="Goodfellow et al., ICLR 2015, arXiv:1412.6572",
    )
    yield AttackSpec(
        name="noise",
        target="rbmed_attacks.controls:Noise",
        summary="control: random noise of the same norm",
        access="none",
    )
    yield AttackSpec(
        name="clean",
        target="rbmed_attacks.controls:Clean",
        summary="control: the images themselves, clamped to [0, 1]",
        access="none",
    )
