"""What this plugin offers. Read at every start, so nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import AttackSpec, hookimpl


@hookimpl
def rbmed_attacks() -> Iterator[AttackSpec]:
    yield AttackSpec(
        name="example",
        target="rbmed_example.mifgsm:MIFGSM",
        summary="to copy: momentum iterative FGSM as a plugin of one file",
        reference="Dong et al., Boosting adversarial attacks with momentum, CVPR 2018, arXiv 1710.06081",
        norms=("linf", "l2"),
        access="gradient",
        revision=1,
    )
