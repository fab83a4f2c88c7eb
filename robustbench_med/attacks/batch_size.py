"""How many images a cell works on at once: the requested number, or as many as a probe finds to fit."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustbench_med.attacks.attacked_system import AttackedSystem
from robustbench_med.attacks.settings import EvaluationSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.runtime import memory
from robustbench_med.runtime.batching import chunk_size, out_of_memory, release
from robustbench_med.runtime.isolation import isolated


class BatchSizes:
    """Chunk sizes by key; a size that turned out too large is not tried again.

    Args:
        requested: ``auto`` or a number.
        device: where the work is done.
    """

    def __init__(self, requested: str | int, device: torch.device) -> None:
        self.auto = requested == "auto"
        self.most = chunk_size(requested, device)
        self.device = device
        self._known: dict[str, int] = {}

    def size(
        self, key: str, pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings
    ) -> int:
        """Images per chunk for ``key``: a defense under the attacks of ``settings``.

        Without memory pressure this is always the same number, so that a run on the CPU can be repeated to the bit.
        """
        if key not in self._known:
            probe = self.auto and len(split) > 8
            self._known[key] = self._probed(pipeline, split, index, settings) if probe else self.most
        return self._known[key]

    def lower(self, key: str, part: slice, total: int) -> None:
        """Take note of the last chunk, of ``total`` images: memory may have run out before it."""
        size = part.stop - part.start
        if size < min(self._known[key], total - part.start):
            self._known[key] = size

    def _probed(self, pipeline: Pipeline, split: Split, index: torch.Tensor, settings: EvaluationSettings) -> int:
        system, few = AttackedSystem(pipeline, settings), torch.arange(min(4, len(split)))
        images, labels = split.images[few].to(self.device), split.labels[few].to(self.device)

        def one_pass(n: int) -> None:
            """One call from each kind of rung, with a gradient where the attack follows one."""
            for rung in {rung.access: rung for rung in settings.rungs}.values():
                ids, counter = index[few[:n]].to(self.device), settings.counter(images[:n], labels[:n])
                target = system.target(replace(rung, eot=1), counter, ids, settings)
                with isolated(0), torch.set_grad_enabled(rung.follows_gradient):
                    logits = target(images[:n].clone().requires_grad_(rung.follows_gradient))
                    if rung.follows_gradient and logits.requires_grad:
                        logits.sum().backward()

        try:
            return memory.fitting(one_pass, self.most, self.device)
        except Exception as error:  # noqa: BLE001 -- a broken plugin fails its cell, where it is recorded
            if not out_of_memory(error):
                return self.most
        release()
        return 1
