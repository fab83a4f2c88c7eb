"""Copies of modules that compute the same faster: attacks make thousands of passes through them."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.defense import Detector, Purifier
from robustbench_med.interfaces.training import Classifier
from robustbench_med.runtime.speed import Speed

_NORM: dict[type[Any], type[Any]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def accelerated(classifier: nn.Module, speed: Speed = Speed()) -> nn.Module:  # noqa: B008 (frozen)
    """A copy for inference and gradients of the input: batch-norm folded into convolutions, no parameter gradients.

    A batch-norm is folded where tracing shows that it reads a convolution's output and nothing else does. Logits then
    differ from the original's by float rounding. A module that cannot be traced, such as one whose control flow
    depends on the images, is copied with its layers as they are. The copy is in evaluation mode; the original is not
    touched.
    """
    fast = copy.deepcopy(classifier).eval().requires_grad_(False)
    for convolution, norm in _foldable(fast, _followed(classifier)):
        conv, statistics = cast("Any", fast.get_submodule(convolution)), cast("Any", fast.get_submodule(norm))
        # In place: `fuse_conv_bn_eval` would copy the convolution first.
        conv.weight, conv.bias = fuse_conv_bn_weights(
            *(conv.weight, conv.bias, statistics.running_mean, statistics.running_var, statistics.eps),
            *(statistics.weight, statistics.bias),
        )
        conv.requires_grad_(False)
        fast.set_submodule(norm, nn.Identity())
    if speed.compile:
        _compile(fast)
    # Convolutions are fastest with channels last; activations take the layout of the weights.
    return fast.to(memory_format=speed.layout)


def _compile(module: nn.Module) -> None:
    """Let torch compile the module itself or, of a detector or purifier, the networks inside."""
    whole = isinstance(module, Classifier) or not any(True for _ in module.children())
    for part in [module] if whole else module.children():
        part.compile(dynamic=True)


def accelerated_pipeline(pipeline: Pipeline, speed: Speed = Speed()) -> Pipeline:  # noqa: B008 (frozen)
    """A copy of the deployed system for the passes of an attack; the original scores."""
    parts = (pipeline.classifier, pipeline.detector, pipeline.purifier)
    classifier, detector, purifier = (None if part is None else accelerated(part, speed) for part in parts)
    return Pipeline(
        cast("Classifier", classifier),
        cast("Detector", detector),
        cast("Purifier", purifier),
        pipeline.gate,
        pipeline.strength,
        pipeline.findings,
    )


#: What `_followed` found, by module: tracing takes as long as several passes, and a module is copied several times.
_FOUND: WeakKeyDictionary[nn.Module, list[tuple[str, str]]] = WeakKeyDictionary()


def _followed(module: nn.Module) -> list[tuple[str, str]]:
    """Names of pairs of parts: each is used once, and the output of the first is read by the second alone."""
    if module in _FOUND:
        return _FOUND[module]
    nodes = _trace(module)
    uses = Counter(str(node.target).removesuffix(".weight").removesuffix(".bias") for node in nodes)
    found = []
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or list(before.users) != [node]:
            continue
        first, second = str(before.target), str(node.target)
        if uses[first] == uses[second] == 1:
            found.append((first, second))
    return _FOUND.setdefault(module, found)


def _foldable(module: nn.Module, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of pairs of parts, the convolutions and the batch-norms that can be folded into them."""
    names = Counter(part for _, part in module.named_modules(remove_duplicate=False))

    def alone(name: str) -> bool:
        """The part has one name, and nothing hooks into it."""
        part = module.get_submodule(name)
        return names[part] == 1 and not part._forward_hooks and not part._forward_pre_hooks

    found = []
    for convolution, norm in pairs:
        part: Any = module.get_submodule(norm)
        # Exact types, because a subclass may compute something else.
        fits = type(part) is _NORM.get(type(module.get_submodule(convolution))) and part.track_running_stats
        if fits and alone(convolution) and alone(norm):
            found.append((convolution, norm))
    return found


def _trace(module: nn.Module) -> list[fx.Node]:
    """The steps of the forward pass; none where the module cannot be traced."""
    try:
        # On a copy and with the generators put back, since tracing runs the module's own Python code.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            return list(fx.Tracer().trace(copy.deepcopy(module)).nodes)
    except Exception:  # noqa: BLE001 - whatever a foreign module raises when traced, its layers are left as they are
        return []
