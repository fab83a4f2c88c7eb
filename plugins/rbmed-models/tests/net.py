"""Models as their authors might publish them, independent of robustbench-med."""

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import nn


def build(num_classes, channels):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes)
    )


def fixed(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 31 * 31, num_classes))


def not_a_module():
    return 3


def demanding(num_classes, depth):
    return build(num_classes, depth)


def broken():
    return 1 / 0


def wide_1(channels):
    return build(1, channels)


def wide_18(channels):
    return build(18, channels)


def wide_1000(channels):
    return build(1000, channels)


one_value = wide_1


def flat(channels):
    return nn.Sequential(build(1, channels), nn.Flatten(0))


def map_of_one(channels):
    return nn.Sequential(build(1, channels), nn.Unflatten(1, (1, 1, 1)))


def sigmoid(channels):
    return nn.Sequential(*build(1, channels), nn.Sigmoid())


def softmax(num_classes, channels):
    return nn.Sequential(*build(num_classes, channels), nn.Softmax(1))


class Answering(nn.Module):
    def __init__(self, inner, make):
        super().__init__()
        self.inner, self.make = inner, make

    def forward(self, x):
        return self.make(self.inner(x), x.flatten(1))


Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Record:
    logits: torch.Tensor
    features: torch.Tensor
    loss: float = 0.0


def answering(num_classes, channels):
    return Answering(build(num_classes, channels), lambda z, f: {"logits": z, "features": f})


answering_dict = answering


def answering_tuple(num_classes, channels):
    return Answering(build(num_classes, channels), lambda z, f: (z, f))


def answering_list(num_classes, channels):
    return Answering(build(num_classes, channels), lambda z, f: [z, z + 1, f])


def answering_pair(num_classes, channels):
    return Answering(build(num_classes, channels), Pair)


def answering_record(num_classes, channels):
    return Answering(build(num_classes, channels), Record)


def answering_nested(num_classes, channels):
    return Answering(build(num_classes, channels), lambda z, f: {"head": Record(z, f), "aux": z + 1})


def unclear(num_classes, channels):
    return Answering(build(num_classes, channels), lambda z, f: {"a": z, "b": z + 1})
