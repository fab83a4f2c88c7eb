"""Byzantine clients and their behaviours."""

from __future__ import annotations

from collections.abc import Sequence

from rbmed_fl.byzantine.backdoor import Backdoor
from rbmed_fl.byzantine.base import ByzantineBehaviour
from rbmed_fl.byzantine.updates import GaussianUpdate, LabelFlip, Scaling, SignFlip
from rbmed_fl.malicious import read_malicious
from robustbench_med.errors import BadParameter

__all__ = ["KINDS", "ByzantineBehaviour", "parse_byzantine"]

KINDS: dict[str, type[ByzantineBehaviour]] = {
    "label-flip": LabelFlip,
    "sign-flip": SignFlip,
    "scaling": Scaling,
    "gaussian": GaussianUpdate,
    "backdoor": Backdoor,
}


def parse_byzantine(text: str, clients: Sequence[str]) -> ByzantineBehaviour:
    """The behaviour of ``malicious=TEXT``, such as ``sign-flip:clients=2`` or ``scaling:names=[a,b]``.

    Args:
        text: ``none``, or a key of `KINDS` with its parameters.
        clients: names of all clients, in the order of their partition ids.

    Raises:
        BadParameter: the behaviour, a parameter or a client is not valid, or no client would be honest.
    """
    name, params = read_malicious(text)
    if name == "none":
        return ByzantineBehaviour(params, len(clients), frozenset())
    if unknown := [name for name in params.names if name not in clients]:
        raise BadParameter(f"malicious={text!r}: no client is named {unknown[0]!r}; valid: {', '.join(clients)}")
    if params.names:
        chosen = frozenset(clients.index(name) for name in params.names)
    else:
        chosen = frozenset(range(max(0, len(clients) - params.clients), len(clients)))
    if len(chosen) == len(clients):
        raise BadParameter(
            f"malicious={text!r}: at least one client must be honest; this federation has {len(clients)} "
            f"({', '.join(clients)})"
        )
    return KINDS[name](params, len(clients), chosen)
