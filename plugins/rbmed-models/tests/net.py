"""A model as its authors might publish it, independent of robustbench-med."""

from torch import nn


def build(num_classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes)
    )


def not_a_module():
    return 3
