"""MedFedPure's classifier: expert heads on shared features, mixed by gates that each client keeps."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_models.resnet import Features, ResNetParams, check_size


class MoEParams(ResNetParams):
    """Parameters of the mixture; the defaults are the published values, except those of the backbone."""

    experts: int = Field(3, ge=1, description="K, the number of experts (and of gates).")
    expert_hidden: int = Field(256, ge=1, description="Hidden units of an expert.")
    gate_hidden: int = Field(64, ge=1, description="Hidden units of a gate.")
    gate: Literal["local", "shared"] = Field(
        "local", description="Gates are kept by each client (personalized) or averaged like the other weights."
    )
    beta: float = Field(1e-4, ge=0, description="Weight of the gates' squared norm in the loss.")
    gamma: float = Field(0.1, ge=0, description="Weight of the entropy of the gates' output in the loss.")


class ParallelMLPs(nn.Module):
    """K perceptrons of one hidden layer, evaluated at once: features (N, F) -> (K, N, out)."""

    def __init__(self, count: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.weight1, self.bias1 = _linear(count, inputs, hidden)
        self.weight2, self.bias2 = _linear(count, hidden, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs of every perceptron, shape (K, N, out)."""
        inputs = features.expand(self.weight1.shape[0], -1, -1)
        hidden = torch.baddbmm(self.bias1, inputs, self.weight1).relu()
        return torch.baddbmm(self.bias2, hidden, self.weight2)


def _linear(count: int, inputs: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (K, in, out) and biases (K, 1, out) of K linear layers, drawn as `torch.nn.Linear` draws them."""
    bound = inputs**-0.5
    weight = torch.empty(count, inputs, outputs).uniform_(-bound, bound)
    return nn.Parameter(weight), nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))


class MoEClassifier(rbmed.Classifier):
    """logits = sum_k alpha_k f_k(psi(x)), with alpha = softmax_k g_k(psi(x)) (Karami et al. 2025)."""

    heads = ("experts.", "gates.")

    def __init__(self, params: MoEParams, num_classes: int, channels: int) -> None:
        super().__init__()
        self.personal = ("gates.",) if params.gate == "local" else ()
        self.beta, self.gamma = params.beta, params.gamma
        self.features = Features(params, channels)
        self.experts = ParallelMLPs(params.experts, self.features.width, params.expert_hidden, num_classes)
        self.gates = ParallelMLPs(params.experts, self.features.width, params.gate_hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (N, K)."""
        return self._mix(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features, shape (N, F): the input of experts and gates."""
        features: Tensor = self.features(x)
        return features

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """CE(logits, y) + beta * sum_k ||phi_k||^2 + gamma * H(alpha), with phi_k the parameters of gate k."""
        logits, log_alpha = self._mix(x)
        entropy = -(log_alpha.exp() * log_alpha).sum(0).mean()
        norm = torch.stack([p.square().sum() for p in self.gates.parameters()]).sum()
        return rbmed.training_loss(logits, y) + self.beta * norm + self.gamma * entropy

    def _mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and log alpha (K, N)."""
        features = self.features(x)
        log_alpha = self.gates(features).squeeze(-1).log_softmax(0)
        return (log_alpha.exp().unsqueeze(-1) * self.experts(features)).sum(0), log_alpha


class MoEModel(rbmed.Model):
    """MedFedPure's personalized mixture of experts, on the same ResNet as the model `resnet`."""

    Params = MoEParams

    def build(self, num_classes: int, channels: int, size: int) -> MoEClassifier:
        """A fresh classifier; see `rbmed_models.resnet.ResNetModel` for the sizes."""
        check_size(size, self.params)
        return MoEClassifier(self.params, num_classes, channels)
