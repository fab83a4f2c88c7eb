"""What an attacker inside the federation holds against one of its clients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustbench_med.defenses.artifact import personal
from robustbench_med.defenses.deployment import Deployment

#: Classifiers of other clients that such an attacker uses at most: each costs a pass in every step.
MOST = 8


class MeanLogits(nn.Module):
    """Several classifiers, their logits averaged.

    Args:
        classifiers: at least one.
    """

    def __init__(self, classifiers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(classifiers)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> mean logits (N, K)."""
        return torch.stack([member(x) for member in self.members]).mean(0)


def insider(deployment: Deployment, client: str) -> MeanLogits:
    """The classifiers of clients other than ``client``, at most `MOST` of them, spread over the federation.

    They contain what the server has sent to all clients in the last round; earlier rounds are not stored. Nothing is
    used that the client keeps to itself, nor is the mean of what all clients keep, to which it contributes.

    Raises:
        UsageError: there is no such client.
    """
    deployment.known(client)
    others = [name for name in deployment.artifact.clients if name != client]
    count = min(len(others), MOST)
    return MeanLogits([deployment.classifier(others[n * len(others) // count]) for n in range(count)])


def no_insider(deployment: Deployment) -> str | None:
    """Why no client can attack another one by its own classifier; None where one can."""
    clients, files = deployment.artifact.clients, deployment.artifact.manifest["files"]
    if len(clients) < 2:
        return "the federation has one client, so that there is no attacker inside it"
    if len({files.get(f"{personal('classifier', client)}.safetensors") for client in clients}) == 1:
        return "all clients hold the same classifier, which `oblivious` attacks"
    return None
