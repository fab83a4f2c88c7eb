"""External PyTorch models: a function in a file, timm, torchvision; with normalisation and class names."""

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
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med.errors import BadParameter, NotDefined, WeightsError

#: Keys under which a file of weights may contain the state.
NESTED = ("state_dict", "model")


class ForeignParams(rbmed.Params):
    """Description of an external model; values that are not given are those of the data set."""

    source: str = Field("", description="What to build; the first value of the reference.")
    weights: str = Field("", description="File of weights: safetensors, or .pt and .pth that hold tensors only.")
    mean: tuple[float, ...] = Field((0.5,), min_length=1, description="Subtracted from pixels: one, or one a channel.")
    std: tuple[float, ...] = Field((0.25,), min_length=1, description="Divides pixels: one, or one a channel.")
    classes: tuple[str, ...] = Field((), description="Names of its classes, in order; none: those of the data set.")
    channels: int | None = Field(None, ge=1, description="Channels of its input; grey images are repeated.")
    size: int | None = Field(None, ge=1, description="Side of its input images; others are resized (bilinear).")
    digest: str = Field("", description="Digest of the files; computed, or compared if given.")

    @pydantic.model_validator(mode="after")
    def _identify(self) -> Self:
        """Different files of one name are different models, also in records."""
        found = _digest(self.files())
        if self.digest and self.digest != found:
            raise ValueError(f"digest={self.digest} is that of other files; the digest of these is {found or 'empty'}")
        if found and not self.digest:
            object.__setattr__(self, "digest", found)
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be > 0")
        return self

    def files(self) -> tuple[Path, ...]:
        """The files that the model depends on."""
        return (Path(self.weights),) if self.weights else ()


class Foreign(rbmed.Classifier):
    """Images in [0, 1] -> logits of a module with its own normalisation, channels and size.

    Args:
        body: normalised images -> logits (N, K).
        params: normalisation, channels, size.
        channels: of the images given.
        embed: normalised images -> features (N, F); None: not available.
    """

    def __init__(
        self, body: nn.Module, params: ForeignParams, channels: int, embed: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.body, self.size, self._embed = body, params.size, embed
        self.channels = params.channels or channels
        if channels not in (1, self.channels):
            raise BadParameter(f"the model needs {self.channels} channels, and the images have {channels}")
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            values = torch.tensor(getattr(params, name))
            if len(values) not in (1, self.channels):
                raise BadParameter(f"{name} has {len(values)} values for {self.channels} channels")
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self.body(self._prepared(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Features (N, F), if the library defines them."""
        if self._embed is None:
            raise NotDefined("a model from a file or from torchvision offers no features; timm's do")
        return self._embed(self._prepared(x))

    def _prepared(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-1] != self.size:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        return (x.expand(-1, self.channels, -1, -1) - self.mean) / self.std


class ForeignModel(rbmed.Model):
    """Base class of external models."""

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of its classes, if given."""
        names: tuple[str, ...] = self.params.classes
        return names

    @abstractmethod
    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module, with initial weights."""

    def build(self, num_classes: int, channels: int, size: int) -> rbmed.Classifier:
        """A classifier with the weights of the file, if one is named.

        Raises:
            WeightsError: the file cannot be read, contains more than tensors, or does not fit.
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

        source: str = Field(description="Python file; its code is run.")
        build: str = Field("build", description="Function that returns a module; may take num_classes, channels, size.")

        def files(self) -> tuple[Path, ...]:
            """The file, and the weights if any."""
            return (Path(self.source), *super().files())

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module that the function returns."""
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
            raise BadParameter(f"{self.params.build} of {file} returns a {type(made).__name__}, not a torch.nn.Module")
        return made


class Timm(ForeignModel):
    """An architecture of timm, without its published weights: ``timm:resnet18``."""

    class Params(ForeignParams):
        """Parameters of the model."""

        source: str = Field("resnet18", description="Name in timm.list_models().")

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module from timm; the image size is passed to architectures that take it."""
        name = self.params.source
        if not timm.is_model(name):
            raise BadParameter(f"timm has no model {name!r}; see timm.list_models()")
        options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
        try:
            return timm.create_model(name, img_size=size, **options)
        except TypeError:  # most architectures take images of any size and have no such option
            return timm.create_model(name, **options)


class TorchVision(ForeignModel):
    """An architecture of torchvision, without its published weights: ``torchvision:resnet18,channels=3``."""

    class Params(ForeignParams):
        """Parameters of the model."""

        source: str = Field("resnet18", description="Name in torchvision.models.list_models().")
        channels: int | None = Field(3, ge=1, description="Channels of its input: 3; grey images are repeated.")

    def body(self, num_classes: int, channels: int, size: int) -> nn.Module:
        """The module from torchvision."""
        name = self.params.source
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise BadParameter(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
        made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
        return made


class Pretrained(rbmed.Strategy):
    """No training: every client has the model as built, for models that come with weights."""

    def train(self, build: Callable[[], rbmed.Learner], clients: Any, job: rbmed.TrainJob) -> rbmed.Federated:
        """The state as built."""
        return rbmed.Federated(shared=build().state_dict(), history=[])


def _features(body: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The features before the last layer of a timm model."""
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
            f"weights {file} contain more than tensors, which could run code; save them as safetensors"
        ) from error
    for name in NESTED:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict):
        raise WeightsError(f"weights {file} contain a {type(state).__name__}, not the state of a model")
    try:
        body.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"weights {file} do not fit {type(body).__name__}: {reason}") from None


def _digest(files: tuple[Path, ...]) -> str:
    """16 hex digits of the files' contents, of safetensors files of their tensors; empty without files."""
    if not files:
        return ""
    total = hashlib.blake2b(digest_size=8)
    for file in files:
        try:
            total.update(hashlib.blake2b(_content(file)).digest())
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    return total.hexdigest()


def _content(file: Path) -> bytes:
    """The bytes of a file; of safetensors as that library writes the tensors today, without metadata."""
    data = file.read_bytes()
    if file.suffix != ".safetensors":
        return data
    try:
        return save(load(data))
    except SafetensorError:  # no such file, which is said when the model is built
        return data
