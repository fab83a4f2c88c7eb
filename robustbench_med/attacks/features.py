"""The features of a classifier, as adversaries who see it can read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_med.errors import BadParameter, NotDefined
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.training import Classifier

#: Clean images whose features an adversary reads at most, spread over those there are.
MOST = 1000
#: Images of one pass.
BATCH = 128


def features(classifier: nn.Module, x: Tensor, layers: Sequence[str] = ()) -> list[Tensor]:
    """The output of each named layer for images (N, C, H, W): (N, F), maps and tokens averaged over their places.

    Args:
        classifier: the classifier.
        x: the images.
        layers: names of submodules; none: the input of the last layers (`Classifier.embed`).

    Raises:
        BadParameter: there is no such layer, or it took no part in the pass.
        NotDefined: no layer is named and the classifier offers no features.
    """
    if not layers:
        if not isinstance(classifier, Classifier):
            raise NotDefined(f"{type(classifier).__name__} offers no features (method embed)")
        return [classifier.embed(x)]
    known, seen = dict(classifier.named_modules()), dict[str, Tensor]()
    for layer in layers:
        if not layer or layer not in known:
            names = ", ".join(name for name in list(known)[1:9])
            raise BadParameter(f"the classifier has no layer {layer!r}; it has {names}{', ...' * (len(known) > 9)}")
        if isinstance(known[layer], torch.jit.ScriptModule):
            raise BadParameter(
                f"layer {layer!r} is in a TorchScript program, whose layers cannot be read; without names the features "
                "are the input of its last linear step"
            )

    def keeper(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            seen[name] = output

        return keep

    handles = [known[layer].register_forward_hook(keeper(layer)) for layer in layers]
    try:
        classifier(x)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        output = seen.get(layer)
        if not isinstance(output, Tensor) or output.dim() < 2 or len(output) != len(x):
            raise BadParameter(f"layer {layer!r} of the classifier gives no tensor with a row for each image")
    return [_pooled(seen[layer]) for layer in layers]


def _pooled(output: Tensor) -> Tensor:
    """Feature maps (N, F, H, W) and tokens (N, T, F) as one vector for each image, (N, F)."""
    if output.dim() == 3:
        return output.mean(1)
    return output if output.dim() == 2 else output.flatten(2).mean(2)


class CleanFeatures:
    """Features of clean images that the adversary holds, computed once for each choice of layers.

    Args:
        classifier: the classifier.
        images: opens the images, with their labels.
        device: where to work.
    """

    def __init__(self, classifier: nn.Module, images: Callable[[], Split], device: torch.device) -> None:
        self.classifier, self.images, self.device = classifier, images, device
        self._known: dict[tuple[str, ...], tuple[list[Tensor], Tensor]] = {}

    @torch.no_grad()
    def __call__(self, layers: Sequence[str] = ()) -> tuple[list[Tensor], Tensor]:
        """For each layer (M, F), and the labels, int64 (M,)."""
        key = tuple(layers)
        if key not in self._known:
            split = self.images()
            count = min(len(split), MOST)
            split = split.select(torch.arange(count) * len(split) // max(count, 1))
            parts = [
                features(self.classifier, split.images[at : at + BATCH].to(self.device), layers)
                for at in range(0, count, BATCH)
            ]
            self._known[key] = [torch.cat(column) for column in zip(*parts, strict=True)], split.labels.to(self.device)
        return self._known[key]
