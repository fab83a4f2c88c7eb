"""Base class of models from elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from torch import nn

import robustbench_med as rbmed
from rbmed_models.foreign.classifier import Foreign
from rbmed_models.foreign.code import told
from rbmed_models.foreign.fitting import fill
from robustbench_med.errors import BadParameter, UsageError


class ForeignModel(rbmed.Model):
    """Base class of external models.

    ``ignored``: beginnings of names in files of weights that the module does without. ``trained``: the module always
    comes with weights that were trained elsewhere.
    """

    ignored: tuple[str, ...] = ()
    trained = False

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of its classes, if given."""
        names: tuple[str, ...] = self.params.classes
        return names

    @property
    def strategy(self) -> str:  # type: ignore[override]
        """With weights it is used as it is."""
        return "pretrained" if self.has_weights() else ""

    def has_weights(self) -> bool:
        """The module comes with weights that were trained elsewhere."""
        return self.trained or bool(self.params.weights)

    def said(self) -> list[str]:
        """What is to be said of how its images were prepared."""
        return []

    @abstractmethod
    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module, with initial weights or its own."""

    def build(self, num_classes: int, channels: int, size: int) -> rbmed.Classifier:
        """As `build_findings`, for classes of which an image has one."""
        return self._built(num_classes, channels, size, findings=False)

    def build_findings(self, findings: int, channels: int, size: int) -> rbmed.Classifier:
        """A classifier with the weights of the file, if one is named, after a trial on noise.

        Raises:
            BadParameter: the module cannot be built, fails on such images, or does not answer with logits.
            WeightsError: the file cannot be read, contains more than tensors, or does not fit.
        """
        return self._built(findings, channels, size, findings=True)

    def _built(self, num_classes: int, channels: int, size: int, findings: bool) -> rbmed.Classifier:
        p = self.params
        try:
            body = unwrapped(self.body(num_classes, p.channels or channels, p.size or size))
        except UsageError:
            raise
        except Exception as error:
            raise BadParameter(f"{p.label()} cannot be built: {told(error)}") from error
        notes = [*(fill(body, Path(p.weights), p.state, self.ignored) if p.weights else []), *self.said()]
        return Foreign(body, p, num_classes, channels, size, notes if self.has_weights() else None, findings)


def unwrapped(body: nn.Module) -> nn.Module:
    """The module inside of `torch.compile` and of parallel wrappers, which bind it to a machine."""
    while isinstance(inner := getattr(body, "_orig_mod", None), nn.Module) or (
        isinstance(body, nn.DataParallel | nn.parallel.DistributedDataParallel)
        and isinstance(inner := body.module, nn.Module)
    ):
        body = inner
    return body
