"""PyTorch models from elsewhere: a function in a file, timm, torchvision; with their normalisation and class names."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pydantic
import timm
import torch
import torch.nn.functional as F
import torchvision
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, NotDefined, WeightsError

#: What weights files hold besides the state itself, where that is nested.
NESTED = ("state_dict", "model")


class ForeignParams(rbmed.Params):
    """What a model from elsewhere says of itself; whatever is not named is as the data set has it."""

    source: str = Field("", description="What to build; the first value of the reference.")
    weights: str = Field("", description="File of weights: safetensors, or .pt and .pth that hold tensors only.")
    mean: tuple[float, ...] = Field((0.5,), min_length=1, description="Subtracted from pixels: one, or one a channel.")
    std: tuple[float, ...] = Field((0.25,), min_length=1, description="Divides pixels: one, or one a channel.")
    classes: tuple[str, ...] = Field((), description="Names of its classes, in order; of the data set if none.")
    channels: int | None = Field(None, ge=1, description="Channels it wants; grey images are repeated.")
    size: int | None = Field(None, ge=1, description="Side of the images it wants; others are resized (bilinear).")
    digest: str = Field("", description="Of the files; filled in, or compared where it is given.")

    @pydantic.model_validator(mode="after")
    def _identify(self) -> Self:
        """Two files of one name are two models, also in records."""
        found = _digest(self.files())
        if self.digest and self.digest != found:
            raise ValueError(f"digest={self.digest} is that of other files; theirs is {found or 'empty'}")
        if found and not self.digest:
            object.__setattr__(self, "digest", found)
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be > 0")
        return self

    def files(self) -> tuple[Path, ...]:
        """The files that say what the model computes."""
        return (Path(self.weights),) if self.weights else ()


class Foreign(rbmed.Classifier):
    """Images in [0, 1] to the logits of a module that wants them otherwise.

    Args:
        body: images as it wants them -> logits (N, K).
        params: normalisation, channels, size.
        channels: of the images given.
        embed: features (N, F) of images as the body wants them; None: it offers none.
    """

    def __init__(
        self, body: nn.Module, params: ForeignParams, channels: int, embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.body, self.wanted, self._embed = body, params.size, embed
        self.channels = params.channels or channels
        if channels not in (1, self.channels):
            raise BadParameter(f"the model wants {self.channels} channels, and the images have {channels}")
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(params, name))
            if len(values) not in (1, self.channels):
                raise BadParameter(f"{name} has {len(values)} values for {self.channels} channels")
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.body(self._as_wanted(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F), where the library says which they are."""
        if self._embed is None:
            raise NotDefined("a model from a file or from torchvision offers no features; timm's do")
        return self._embed(self._as_wanted(x))

    def _as_wanted(self, x: Tensor) -> Tensor:
        if self.wanted is not None and x.shape[-1] != self.wanted:
            x = F.interpolate(x, size=(self.wanted, self.wanted), mode="bilinear", antialias=True)
        return (x.expand(-1, self.channels, -1, -1) - self.mean) / self.std


class ForeignModel(rbmed.Model):
    """A model from elsewhere."""

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of its classes, where they were given."""
        names: tuple[str, ...] = self.params.classes
        return names

    @abstractmethod
    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module itself, with initial weights."""

    def build(self, num_classes: int, channels: int, size: int) -> rbmed.Classifier:
        """A classifier with the weights of the file, if one is named.

        Raises:
            WeightsError: the file cannot be read, holds more than tensors, or does not fit.
        """
        p = self.params
        body = self.body(num_classes, p.channels or channels, p.size or size)
        if p.weights:
            _fill(body, Path(p.weights))
        return Foreign(body, p, channels, _features(body))


class PyTorchFile(ForeignModel):
    """A function in a Python file that returns a module: ``--model net.py:build``."""

    class Params(ForeignParams):
        """Parameters of the model."""

        source: str = Field(description="Python file; it is run, so trust it.")
        build: str = Field("build", description="Function that returns a module; may take num_classes, channels, size.")

        def files(self) -> tuple[Path, ...]:
            """The file, and the weights if any."""
            return (Path(self.source), *super().files())

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """What the function returns."""
        file = Path(self.params.source)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function = getattr(module, self.params.build, None)
        if not callable(function):
            raise BadParameter(f"{file} has no function {self.params.build!r}; write --model {file}:NAME")
        known = {"num_classes": num_classes, "channels": channels, "size": size}
        made = function(**{name: known[name] for name in inspect.signature(function).parameters if name in known})
        if not isinstance(made, nn.Module):
            raise BadParameter(f"{self.params.build} of {file} returns a {type(made).__name__}, no torch.nn.Module")
        return made


class Timm(ForeignModel):
    """An architecture of timm, without its published weights: ``timm:resnet18``."""

    class Params(ForeignParams):
        """Parameters of the model."""

        source: str = Field("resnet18", description="Name in timm.list_models().")

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """As timm builds it; an architecture of fixed size is told the size, where it can be."""
        name = self.params.source
        if not timm.is_model(name):
            raise BadParameter(f"timm has no model {name!r}; see timm.list_models()")
        options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError:  # most architectures take images of any size, and no such option
            return timm.create_model(name, **options)


class TorchVision(ForeignModel):
    """An architecture of torchvision, without its published weights: ``torchvision:resnet18,channels=3``."""

    class Params(ForeignParams):
        """Parameters of the model."""

        source: str = Field("resnet18", description="Name in torchvision.models.list_models().")
        channels: int | None = Field(3, ge=1, description="Channels it wants: 3; grey images are repeated.")

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """As torchvision builds it."""
        name = self.params.source
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise BadParameter(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
        made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
        return made


class Pretrained(rbmed.Strategy):
    """Trains nothing: every client has the model as it was built, which is for models that bring their weights."""

    def train(self, build: Callable[[], rbmed.Learner], clients: Any, job: rbmed.TrainJob) -> rbmed.Federated:
        """The state as built."""
        return rbmed.Federated(shared=build().state_dict(), history=[])


def _features(body: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Timm's way to the features before the last layer."""
    if not (hasattr(body, "forward_features") and hasattr(body, "forward_head")):
        return None
    whole: Any = body
    return lambda x: torch.as_tensor(whole.forward_head(whole.forward_features(x), pre_logits=True))


def _fill(body: nn.Module, file: Path) -> None:
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"weights {file} cannot be read: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:
        raise WeightsError(
            f"weights {file} hold more than tensors, which could run code; save them as safetensors"
        ) from error
    for name in NESTED:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict):
        raise WeightsError(f"weights {file} hold a {type(state).__name__}, no state of a model")
    try:
        body.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"weights {file} do not fit {type(body).__name__}: {reason}") from None


def _digest(files: tuple[Path, ...]) -> str:
    """16 hex digits of the files' contents; empty without files."""
    if not files:
        return ""
    total = hashlib.blake2b(digest_size=8)
    for file in files:
        try:
            total.update(hashlib.blake2b(file.read_bytes()).digest())
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    return total.hexdigest()
