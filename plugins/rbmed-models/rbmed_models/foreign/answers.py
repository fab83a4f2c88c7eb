"""What a module answers with, read as logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import robustbench_med as rbmed
from rbmed_models.foreign.squashed import Squashing
from robustbench_med.errors import BadParameter

#: Entries of answers in answers that are looked at.
DEEPEST = 3
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Reading:
    """How an answer is read.

    Attributes:
        entry: the one that holds the values; empty: the answer is a tensor.
        single: one value for two classes, which belongs to the second.
        probabilities: the values are probabilities.
        findings: one value for each of several findings, not for each class.
        independent: probabilities of classes that do not add up to 1, each from a sigmoid of its own.
    """

    entry: str = ""
    single: bool = False
    probabilities: bool = False
    findings: bool = False
    independent: bool = False

    def of(self, run: Callable[[], Any], images: int) -> Tensor:
        """Logits (N, K) of so many images, of what a module answers when it is run; raises as `logits`.

        Of probabilities that end in a sigmoid or softmax, those before it, which do not saturate; of an image whose
        probabilities were changed in place afterwards, their logarithms.
        """
        if not self.probabilities or torch.compiler.is_compiling():
            return self.logits(run(), images)
        with Squashing() as seen:
            answer = run()
        several = self.findings or self.independent
        found = seen.logits(_picked(answer, self.entry), softmax=not (several or self.single))
        plain = self.logits(answer, images)
        if found is None:
            return plain
        before, same = (_rows(each, images) for each in found)
        values = before.float() if before.dtype in _HALF else before
        if not several:
            values = (
                torch.cat([F.logsigmoid(-values), F.logsigmoid(values)], 1) if self.single else F.log_softmax(values, 1)
            )
        # Where the module has changed them since, in place, its answer is what they are now. Torch cannot differentiate
        # that through most functions, so that the gradient stays that of the values before.
        changed = plain.detach() + (values - values.detach())
        return torch.where(same.all(1, keepdim=True), values, changed)

    def logits(self, answer: Any, images: int) -> Tensor:
        """Logits (N, K) of so many images.

        Raises:
            BadParameter: in training the answer has no such entry.
        """
        values = _rows(_picked(answer, self.entry), images)
        if values.dtype in _HALF:  # no room for losses
            values = values.float()
        if self.probabilities:
            tiny = torch.finfo(values.dtype).tiny
            if self.findings or self.independent:
                return values.clamp_min(tiny).log() - (1 - values).clamp_min(tiny).log()
            if self.single:
                return torch.cat([(1 - values).clamp_min(tiny).log(), values.clamp_min(tiny).log()], 1)
            return values.clamp_min(tiny).log()
        return torch.cat([torch.zeros_like(values), values], 1) if self.single else values


def read(
    answer: Any, images: int, classes: int, output: str, label: str, findings: bool = False
) -> tuple[Reading, str]:
    """How an answer for so many images is read, and what is to be said about it.

    With ``findings`` there is a value for each finding, in place of each class.

    Raises:
        BadParameter: it is not clear which entry holds the logits, or it has another number of classes.
    """
    found = entries(answer)
    if not found:
        raise BadParameter(f"{label} answers with a {type(answer).__name__}, which holds no tensor; return logits")
    if isinstance(answer, Tensor):
        entry, note = "", ""
    else:
        widths = (classes, 1) if classes == 2 and not findings else (classes,)
        entry, note = _entry(found, images, widths, output, label, type(answer).__name__)
    values = _rows(found[entry])
    if values.dim() != 2 or len(values) != images or not values.is_floating_point():
        shape, kind = tuple(found[entry].shape), str(found[entry].dtype).removeprefix("torch.")
        wrong = ", not with a row of logits for each"
        if not values.is_floating_point():
            wrong = f" and type {kind}, as of classes; return the values of which argmax is taken"
        raise BadParameter(f"{label} answers {rbmed.plural(images, 'image')} with shape {shape}{wrong}")
    if not values.isfinite().all():
        raise BadParameter(
            f"{label} answers with values that are not finite (NaN or infinite); check its weights and mean and std"
        )
    width = values.shape[1]
    single = width == 1 and classes == 2 and not findings
    if width != classes and not single:
        many = f"{width} values" if width > 1 else "one value"
        raise BadParameter(
            f"{label} answers with {many} for each image, and {classes} {'findings' if findings else 'classes'} are "
            f"wanted; name all of its classes in their order: classes=[...]"
        )
    if single:
        note = "; ".join(filter(None, [note, "its one value stands for the second class: logits 0 and z"]))
    return Reading(entry, single, findings=findings), note


def are_probabilities(values: Tensor, reading: Reading) -> bool:
    """Whether the values of the entry lie in [0, 1] and, of several classes, add up to 1."""
    return in_range(values) and not is_independent(values, reading)


def in_range(values: Tensor) -> bool:
    """Whether all values lie in [0, 1]."""
    return bool(((values >= 0) & (values <= 1)).all())


def is_independent(values: Tensor, reading: Reading) -> bool:
    """Whether the values are of several classes and do not add up to 1, as those of a sigmoid for each."""
    return not (reading.single or reading.findings or add_up(_rows(values).detach()))


def add_up(rows: Tensor) -> bool:
    """Whether the values (N, K) of every image add up to 1."""
    return bool(((rows.sum(1) - 1).abs() < 1e-3).all())


def entries(answer: Any, before: str = "", depth: int = 0) -> dict[str, Tensor]:
    """The tensors in an answer by their paths, such as ``logits``, ``0`` or ``head.logits``."""
    if isinstance(answer, Tensor):
        return {before: answer}
    found: dict[str, Tensor] = {}
    if depth < DEEPEST:
        for name, value in _parts(answer).items():
            found |= entries(value, f"{before}.{name}" if before else name, depth + 1)
    return found


def _parts(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Mapping):
        return {str(name): value for name, value in answer.items()}
    if is_dataclass(answer):
        return {each.name: getattr(answer, each.name) for each in fields(answer)}
    if isinstance(answer, list | tuple):
        names = getattr(answer, "_fields", None) or map(str, range(len(answer)))
        return dict(zip(names, answer, strict=True))
    return {name: value for name, value in getattr(answer, "__dict__", {}).items() if not name.startswith("_")}


def _picked(answer: Any, entry: str) -> Tensor:
    """The entry of an answer; of one that differs in training, with auxiliary heads, its first."""
    found = entries(answer)
    if entry in found:
        return found[entry]
    if not found:
        raise BadParameter(f"the model answers with a {type(answer).__name__}, which holds no tensor")
    return next(iter(found.values()))


def _rows(values: Tensor, images: int = 0) -> Tensor:
    """(N,) and (N, K, 1, 1) as (N, K); one that squeezes leaves out the dimension of a single image."""
    if values.dim() < 2 and images == 1:
        return values.reshape(1, -1)
    if values.dim() == 1:
        return values.unsqueeze(1)
    return values.flatten(1) if values.dim() > 2 and values.shape[2:].numel() == 1 else values


def _entry(
    found: Mapping[str, Tensor], images: int, widths: tuple[int, ...], output: str, label: str, kind: str
) -> tuple[str, str]:
    """The entry with the logits, and a note where it was not named."""
    numbered = {entry.rpartition(".")[2]: entry for entry in found}
    listed = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items())
    if output:
        positions = dict(zip(map(str, range(len(found))), found, strict=True))
        entry = output if output in found else numbered.get(output, positions.get(output))
        if entry is None:
            raise BadParameter(f"{label} answers with a {kind} of {listed}, and output={output} is none of these")
        return entry, ""
    fit = [
        name
        for name, value in found.items()
        if (rows := _rows(value)).dim() == 2 and len(rows) == images and rows.shape[1] in widths
    ]
    named = [name for name in fit if name.rpartition(".")[2] in ("logits", "logit")]
    if len(named or fit) == 1:
        (entry,) = named or fit
        return entry, f"{entry} of its {kind} holds the logits"
    example = (named or fit or list(found))[0]
    raise BadParameter(f"{label} answers with a {kind} of {listed}; name the one with the logits: output={example}")
