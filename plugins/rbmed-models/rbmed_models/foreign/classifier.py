"""A module from elsewhere as a classifier of images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_models.foreign.answers import (
    Reading,
    add_up,
    are_probabilities,
    entries,
    in_range,
    is_independent,
    read,
)
from rbmed_models.foreign.code import told
from rbmed_models.foreign.features import features, last_linear
from robustbench_med.errors import BadParameter, NotDefined

if TYPE_CHECKING:
    from rbmed_models.foreign.params import ForeignParams

#: Sides of images that are tried to find out what a module of a fixed size takes.
SIZES = (224, 256, 299, 384, 128, 96, 64, 32, 28)
#: By how much rounding may change an answer with the size of the batch.
BATCH_NOISE = 0.02


class Foreign(rbmed.Classifier):
    """Images in [0, 1] -> logits of a module with its own normalisation, channels and size.

    Args:
        body: normalised images -> an answer with logits.
        params: normalisation, channels, size, and how the answer is read.
        classes: number of classes.
        channels: of the images given.
        size: side of the images given.
        notes: what is to be said of the weights; None: it has none.
        findings: it answers about several findings, with a value for each.

    Raises:
        BadParameter: the module cannot answer such images, or not with logits.
    """

    def __init__(
        self,
        body: nn.Module,
        params: ForeignParams,
        classes: int,
        channels: int,
        size: int,
        notes: Sequence[str] | None = None,
        findings: bool = False,
    ) -> None:
        super().__init__()
        self.body, self.size, self.label = body, params.size, params.label()
        self.channels = params.channels or channels
        if channels not in (1, self.channels):
            raise BadParameter(
                f"the model needs {rbmed.plural(self.channels, 'channel')}, and the images have {channels}"
            )
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(params, name))
            if len(values) not in (1, self.channels):
                raise BadParameter(
                    f"{name} has {rbmed.plural(len(values), 'value')} for {rbmed.plural(self.channels, 'channel')}"
                )
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)
        self.named_layer, self.widened = params.layer, ""
        self.reading, self.head, said = self._tried(params, classes, channels, size, findings)
        if notes is not None:
            self.notes = (self._input(params, size), *notes, *said)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        prepared = self._prepared(x)
        return self.reading.of(lambda: self.body(prepared), len(x))

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F): the output of the layer that was named, else the input of the last linear one."""
        if not (self.named_layer or self.head):
            raise NotDefined(f"{self.label} has no linear layer, so its features must be named: layer=NAME")
        layer = self.named_layer or self.head
        return features(self.body, self._prepared(x), layer, inside=bool(self.named_layer))

    def _prepared(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-1] != self.size:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        return (x.expand(-1, self.channels, -1, -1) - self.mean) / self.std

    # --- a trial on noise ---

    def _tried(
        self, params: ForeignParams, classes: int, channels: int, size: int, findings: bool
    ) -> tuple[Reading, str, list[str]]:
        """How answers are read, the layer that gives the logits, and what is to be said."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(3, channels, size, size, generator=generator)
        training = self.body.training
        self.body.eval()
        # A module may draw random numbers, and those of the harness must not change.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                answer = self._answer(x, params, channels, size)
                reading, note = read(answer, len(x), classes, params.output, self.label, findings)
                said = [note] if note else []
                if self.widened:
                    said.append(f"its weights are {self.widened}, and images float32: it is run in float32")
                said += self._on_repetition(reading, x)
                said += self._on_gradients(reading, x)
                values = entries(answer)[reading.entry]
                if self._probabilities(params, reading, answer, x):
                    reading = replace(reading, probabilities=True, independent=is_independent(values, reading))
                    self._refuse_softmax(reading, answer, len(x))
                    taken = "log-odds" if findings or reading.independent else "logarithms"
                    if params.scores == "auto":
                        said.append(f"its answers are probabilities, of which {taken} are taken (scores=logits: not)")
                elif params.scores == "auto" and self._percent(reading, values, x):
                    said += self._on_percentages(reading)
                elif params.scores == "auto" and in_range(values) and in_range(self._far(reading, x)):
                    said.append(
                        "its answers lie in [0, 1] and do not add up to 1: if they are of a sigmoid for each class, "
                        "scores=probabilities takes their log-odds"
                    )
                given = self._prepared(x)
                head = last_linear(self.body, lambda: entries(self.body(given))[reading.entry])
            finally:
                self.body.train(training)
        return reading, head, said

    def _on_gradients(self, reading: Reading, x: Tensor) -> list[str]:
        with torch.enable_grad():
            given = x[:1].clone().requires_grad_()
            if reading.logits(self.body(self._prepared(given)), 1).requires_grad:
                return []
        return [
            "its answers carry no gradient (torch.no_grad, detach or numpy in forward): attacks that need one fail; "
            "those on scores or decisions run, such as square and hopskipjump"
        ]

    def _on_repetition(self, reading: Reading, x: Tensor) -> list[str]:
        """Asks again, for the same images and for each alone: what is to be said, if it draws random numbers.

        Raises:
            BadParameter: an answer depends on the other images of the batch.
        """
        x = x * x.new_tensor([1.0, 0.5, 0.1]).view(-1, 1, 1, 1)  # images of one kind have the same statistics
        first, again = (reading.logits(self.body(self._prepared(x)), len(x)) for _ in range(2))
        lost = [] if first.isfinite().all() else ["its answers to dark images are not finite, and count as wrong"]
        first, again = first.nan_to_num(), again.nan_to_num()  # NaN differs from itself
        if not torch.equal(first, again):
            self.stochastic = True
            return [
                *lost,
                "two answers to the same image differ (dropout in evaluation?): it is measured as random, on several "
                "draws; if that is not meant, switch it off",
            ]
        try:
            every = [reading.logits(self.body(self._prepared(one)), 1) for one in x.unsqueeze(1)]
        except Exception as error:
            raise BadParameter(f"{self.label} fails on a single image: {told(error)}") from error
        apart = (torch.cat(every).nan_to_num() - first).abs().max() / first.abs().max().clamp_min(1)
        if apart > BATCH_NOISE:
            raise BadParameter(
                f"{self.label} answers an image otherwise when others are in the batch (by {float(apart):.2g} of the "
                "largest logit), so that no figure could be repeated; is batch normalisation in training mode?"
            )
        return lost

    def _refuse_softmax(self, reading: Reading, answer: Any, images: int) -> None:
        rows = reading.logits(answer, images).sigmoid() if reading.findings else None
        if rows is not None and rows.shape[1] > 1 and add_up(rows):
            raise BadParameter(
                f"{self.label} answers with probabilities that add up to 1 (softmax), which is one answer of several "
                f"classes; for several findings it has to answer with a logit, or a sigmoid, for each"
            )

    def _answer(self, x: Tensor, params: ForeignParams, channels: int, size: int) -> Any:
        try:
            return self.body(self._prepared(x))
        except Exception as error:
            if (answer := self._in_float32(x)) is not None:
                return answer
            side = params.size or size
            asked, remedy = f"{self.channels} x {side} x {side}", self._remedy(params, channels, side)
            raise BadParameter(f"{self.label} fails on images of {asked}{remedy}: {told(error)}") from error

    def _in_float32(self, x: Tensor) -> Any:
        """The answer of a module whose weights are of another precision than the images, widened; None without one."""
        others = {str(each.dtype) for each in self.body.parameters() if each.is_floating_point()} - {"torch.float32"}
        if not others:
            return None
        self.body.float()
        self.widened = " and ".join(sorted(others)).replace("torch.", "")
        try:
            return self.body(self._prepared(x))
        except Exception:  # noqa: BLE001 - what it says of images of its own precision counts
            return None

    def _remedy(self, params: ForeignParams, channels: int, given: int) -> str:
        """What makes the module run, found by trying."""
        counts = (self.channels, 3) if channels == 1 and params.channels is None else (self.channels,)
        for count in dict.fromkeys(counts):
            for size in (None, *(SIZES if params.size is None else ())):
                side = size or given
                try:
                    self.body(torch.zeros(2, count, side, side))
                except Exception:  # noqa: BLE001 - whatever it raises, this is not what it takes
                    continue
                taken = [f"size={size}"] if size else []
                taken += [f"channels={count}"] if count != self.channels else []
                if taken:
                    return f" (it takes {','.join(taken)})"
        return ""

    def _probabilities(self, params: ForeignParams, reading: Reading, answer: Any, x: Tensor) -> bool:
        if params.scores != "auto":
            return params.scores == "probabilities"
        if not are_probabilities(entries(answer)[reading.entry], reading):
            return False
        # Logits may lie in [0, 1] by chance; those of images far out of range do not.
        return are_probabilities(self._far(reading, x), reading)

    def _percent(self, reading: Reading, values: Tensor, x: Tensor) -> bool:
        """Whether all answers lie between 0 and 100, and those of several classes add up to 100."""
        found = torch.cat([values.detach(), self._far(reading, x).detach()]) / 100
        whole = reading.single or reading.findings or add_up(found.flatten(1))
        return bool(whole and in_range(found) and found.max() > 0.01)

    def _on_percentages(self, reading: Reading) -> list[str]:
        """What is to be said of such answers: of one value, 0 is no boundary then.

        Raises:
            BadParameter: they are surely no logits; a loss of them would be saturated, so that attacks fail.
        """
        if not (reading.single or reading.findings):
            raise BadParameter(
                f"{self.label} answers with values that add up to 100, as percentages; divide them by 100, so that "
                "they are read as probabilities, or if they are logits: scores=logits"
            )
        return ["its answers to noise lie between 0 and 100: if they are percentages, divide them by 100"]

    def _far(self, reading: Reading, x: Tensor) -> Tensor:
        return entries(self.body(self._prepared(x) * 1000))[reading.entry]

    def _input(self, params: ForeignParams, size: int) -> str:
        """What the module is given, and which of it nobody has stated."""
        side = params.size or size
        mean, std = (", ".join(f"{value:g}" for value in getattr(params, name)) for name in ("mean", "std"))
        text = f"{self.label}: input {self.channels} x {side} x {side}, mean {mean}, std {std}"
        unsaid = [name for name in ("size", "channels", "mean", "std") if name not in params.model_fields_set]
        text += f" (not stated, so assumed: {', '.join(unsaid)})" if unsaid else ""
        if side > size:
            text += f"; images of {size} px are enlarged to {side}, and blurred: give the data set size={side} too"
        return text
