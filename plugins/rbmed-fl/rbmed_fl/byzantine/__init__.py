"""Clients that misbehave, one behaviour a file."""

from __future__ import annotations

from collections.abc import Sequence

from rbmed_fl.byzantine.backdoor import Backdoor
from rbmed_fl.byzantine.base import Malice, Who
from rbmed_fl.byzantine.gaussian import Gaussian
from rbmed_fl.byzantine.label_flip import LabelFlip
from rbmed_fl.byzantine.scaling import Scaling
from rbmed_fl.byzantine.sign_flip import SignFlip
from rbmed_fl.option import read
from robustbench_med.errors import BadParameter

__all__ = ["KINDS", "Malice", "malice"]

KINDS: dict[str, type[Malice]] = {
    "label-flip": LabelFlip, "sign-flip": SignFlip, "scaling": Scaling, "gaussian": Gaussian, "backdoor": Backdoor,
}  # fmt: skip


def malice(text: str, clients: Sequence[str]) -> Malice:
    """The behaviour that ``malicious=TEXT`` asks for, such as ``sign-flip:clients=2`` or ``scaling:names=[a,b]``.

    Args:
        text: ``none``, or a key of `KINDS` with its parameters.
        clients: names of all clients, in the order of their partition ids.

    Raises:
        BadParameter: there is no such behaviour, parameter or client, or nobody would be left to behave well.
    """
    if text == "none":
        return Malice(Who(), len(clients), frozenset())
    name, params = read("malicious", text, {name: kind.Params for name, kind in KINDS.items()})
    if unknown := [name for name in params.names if name not in clients]:
        raise BadParameter(f"malicious={text!r}: no client is called {unknown[0]!r}; valid: {', '.join(clients)}")
    if params.names:
        chosen = frozenset(clients.index(name) for name in params.names)
    else:
        chosen = frozenset(range(max(0, len(clients) - params.clients), len(clients)))
    if len(chosen) == len(clients):
        raise BadParameter(
            f"malicious={text!r}: at least one client must behave well; this federation has {len(clients)} "
            f"({', '.join(clients)})"
        )
    return KINDS[name](params, len(clients), chosen)
