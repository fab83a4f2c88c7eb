"""Two convolutions and a linear layer."""

import torch
from torch import Tensor, nn

import robustbench_med as rbmed


class Network(rbmed.Classifier):
    """Images in [0, 1] to logits; ``heads`` names the layers after the features."""

    heads = ("head.",)

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        layers = (nn.Conv2d(channels, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU())
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(32 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.head(self.embed(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F); normalisation happens here, inside the model."""
        return torch.as_tensor(self.features((x - 0.5) / 0.25))


class Example(rbmed.Model):
    """A small convolutional network."""

    class Params(rbmed.Params):
        """Parameters of the architecture."""

        width: int = rbmed.Field(8, ge=1, description="Channels of the first layer.")

    def build(self, num_classes: int, channels: int, size: int) -> rbmed.Classifier:
        """A fresh classifier for images of any size."""
        return Network(num_classes, channels, self.params.width)
