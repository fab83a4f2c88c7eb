"""Features of any module: the input of its last linear layer, or the output of a layer that is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rbmed_models.foreign.answers import entries
from robustbench_med.errors import NotDefined


def last_linear(body: nn.Module, forward: Callable[[], Tensor]) -> str:
    """The name of the layer that gives the logits: linear, or a convolution of one pixel; empty if there is none.

    Args:
        body: the module.
        forward: runs it and returns the values of which logits are made.
    """
    if isinstance(body, torch.jit.ScriptModule):
        return "linear" if _linear_nodes(body.inlined_graph) else ""
    calls: list[tuple[str, Any]] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _given, answer, name=name: calls.append((name, answer)))
        for name, layer in body.named_modules()
        if isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1)
    ]
    try:
        values = forward()
    finally:
        for hook in hooks:
            hook.remove()
    made = [name for name, answer in calls if isinstance(answer, Tensor) and _same(answer, values)]
    linear = [name for name, _ in calls if isinstance(body.get_submodule(name), nn.Linear)]
    return next(iter(made[-1:] or linear[-1:] or [name for name, _ in calls[-1:]]), "")


def _same(answer: Tensor, values: Tensor) -> bool:
    return answer.numel() == values.numel() and torch.equal(answer.flatten(), values.flatten())


def features(body: nn.Module, x: Tensor, layer: str, inside: bool) -> Tensor:
    """Features (N, F) of normalised images, differentiable.

    Args:
        body: the module.
        x: the images.
        layer: name of the layer.
        inside: its output; else its input.

    Raises:
        NotDefined: there is no such layer, or it does not run.
    """
    if isinstance(body, torch.jit.ScriptModule):
        if inside:
            raise NotDefined(
                f"layer={layer}: layers of a TorchScript program cannot be named; without layer= its features are the "
                "input of its last linear step"
            )
        return _of_script(body, x)
    kept: list[Tensor] = []

    def keep(value: Any) -> None:
        kept.append(next(iter(entries(value).values())))

    try:
        module = body.get_submodule(layer)
    except AttributeError:
        names = ", ".join(name for name, _ in body.named_children())
        raise NotDefined(f"layer={layer}: the model has no such layer; its layers are {names}") from None
    if inside:
        hook = module.register_forward_hook(lambda _module, _given, answer: keep(answer))
    else:
        hook = module.register_forward_pre_hook(lambda _module, given: keep(given))
    try:
        body(x)
    finally:
        hook.remove()
    if not kept:
        raise NotDefined(f"layer {layer} does not run in a forward pass; name another: layer=NAME")
    return _pooled(kept[-1])


def _linear_nodes(graph: Any) -> list[Any]:
    return [node for name in ("aten::linear", "aten::addmm") for node in graph.findAllNodes(name, True)]


def _of_script(body: torch.jit.ScriptModule, x: Tensor) -> Tensor:
    """The input of the last linear step: the program is cut off there, since its layers cannot be listened to."""
    graph = body.inlined_graph.copy()
    node = _linear_nodes(graph)[-1]
    given = list(node.inputs())[0 if node.kind() == "aten::linear" else 1]
    try:
        graph.eraseOutput(0)
        graph.registerOutput(given)
        found: Tensor = torch._C._create_function_from_graph("features", graph)(body, x)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise NotDefined(f"the TorchScript program cannot be cut off before its last linear step: {reason}") from None
    return _pooled(found)


def _pooled(found: Tensor) -> Tensor:
    """Maps and tokens averaged: (N, F)."""
    if found.dim() == 4:
        return found.mean((2, 3)) if found.shape[1] > 1 or found.shape[3] == 1 else found.flatten(1)
    return found.mean(1) if found.dim() == 3 else found.flatten(1)
