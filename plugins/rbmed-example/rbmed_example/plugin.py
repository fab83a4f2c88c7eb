"""What this plugin offers. It is read at every start, so it imports nothing heavy."""

from collections.abc import Iterator

import robustbench_med as rbmed

RBMED_INTERFACE = 2


@rbmed.hookimpl
def rbmed_attacks() -> Iterator[rbmed.AttackSpec]:
    yield rbmed.AttackSpec(
        name="example",
        target="rbmed_example.attack:Example",
        summary="to copy: signed gradient steps",
        title="Example attack",
        norms=("linf", "l2"),
    )
