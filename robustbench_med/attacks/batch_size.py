"""How many images a cell works on at once: what was asked for, or as many as a probe says will fit."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustbench_med.attacks.adversary import Systems, adversary
from robustbench_med.attacks.settings import Setting
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.dataset import Split
from robustbench_med.runtime import memory
from robustbench_med.runtime.batching import chunk_size, out_of_memory, release
from robustbench_med.runtime.isolation import isolated


class Sizes:
    """Chunk sizes by what is worked on; a size that turned out too large is not tried again.

    Args:
        requested: ``auto`` or a number.
        device: where the work is done.
    """

    def __init__(self, requested: str | int, device: torch.device) -> None:
        self.auto = requested == "auto"
        self.most = chunk_size(requested, device)
        self.device = device
        self._known: dict[str, int] = {}

    def size(self, what: str, pipeline: Pipeline, split: Split, index: torch.Tensor, setting: Setting) -> int:
        """Images per chunk for ``what``: a defense under the attacks of ``setting``.

        Without memory pressure this is always the same number, so that a run on the CPU can be repeated to the bit.
        """
        if what not in self._known:
            probe = self.auto and len(split) > 8
            self._known[what] = self._probed(pipeline, split, index, setting) if probe else self.most
        return self._known[what]

    def lower(self, what: str, part: slice, total: int) -> None:
        """Take note of the chunk that was worked on last, of ``total`` images: memory may have run out before."""
        size = part.stop - part.start
        if size < min(self._known[what], total - part.start):
            self._known[what] = size

    def _probed(self, pipeline: Pipeline, split: Split, index: torch.Tensor, setting: Setting) -> int:
        systems, few = Systems(pipeline, setting), torch.arange(min(4, len(split)))
        images, labels = split.images[few].to(self.device), split.labels[few].to(self.device)

        def one_pass(n: int) -> None:
            """Each adversary asks once, with a gradient where it follows one."""
            for step in {step.access: step for step in setting.steps}.values():
                ids = index[few[:n]].to(self.device)
                seen = adversary(systems, replace(step, eot=1), images[:n], labels[:n], ids, setting)
                with isolated(0), torch.set_grad_enabled(step.follows_gradient):
                    logits = seen(images[:n].clone().requires_grad_(step.follows_gradient))
                    if step.follows_gradient and logits.requires_grad:
                        logits.sum().backward()

        try:
            return memory.fitting(one_pass, self.most, self.device)
        except Exception as error:  # noqa: BLE001 -- a plugin that cannot be asked fails its cell, where it is recorded
            if not out_of_memory(error):
                return self.most
        release()
        return 1
