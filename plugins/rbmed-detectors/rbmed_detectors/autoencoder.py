"""The masked autoencoder as a part: base classes of the detectors and purifiers built on it."""

from __future__ import annotations

import math
from typing import Any

import pydantic
import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.vit import MaskedAutoencoder, complementary
from robustbench_med.errors import BadParameter

#: Marks a parameter that the trained weights do not depend on.
RUNTIME: dict[str, Any] = {"json_schema_extra": {"runtime": True}}


class MAEParams(rbmed.Params):
    """The autoencoder and its training: everything that its weights depend on."""

    patch: int = Field(8, ge=1, description="Side of a patch in pixels; must divide the image side.")
    width: int = Field(128, ge=4, multiple_of=4, description="Encoder width.")
    depth: int = Field(4, ge=1, description="Encoder blocks.")
    decoder_width: int = Field(96, ge=4, multiple_of=4, description="Decoder width.")
    decoder_depth: int = Field(2, ge=1, description="Decoder blocks.")
    heads: int = Field(4, ge=1, description="Attention heads; must divide both widths.")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of patches hidden in training.")
    training: str = Field(
        "fedavg:rounds=12,local_epochs=10,batch_size=32,lr=1.5e-3",
        description="Strategy that trains the autoencoder over the clients; local:... trains one per client.",
    )

    @pydantic.model_validator(mode="after")
    def _heads_divide(self) -> MAEParams:
        if self.width % self.heads or self.decoder_width % self.heads:
            widths = f"width={self.width} and decoder_width={self.decoder_width}"
            raise ValueError(f"heads={self.heads} must divide {widths}")
        return self


class RebuildParams(MAEParams):
    """How an image is reconstructed, besides the autoencoder itself."""

    score_mask_ratio: float = Field(0.75, gt=0, lt=1, **RUNTIME, description="Share of patches hidden in each pass.")
    passes: int = Field(4, ge=1, **RUNTIME, description="Passes of one set of masks; together they hide every patch.")
    masks: int = Field(1, ge=1, **RUNTIME, description="Sets of complementary masks whose predictions are averaged.")

    @pydantic.model_validator(mode="after")
    def _all_hidden(self) -> RebuildParams:
        if self.passes * self.score_mask_ratio < 1:
            raise ValueError(
                f"passes={self.passes} with score_mask_ratio={self.score_mask_ratio} leave patches that are never "
                f"hidden; use at least {math.ceil(1 / self.score_mask_ratio)} passes"
            )
        return self


class HiddenPatches(rbmed.Learner):
    """The learner: predicts hidden patches of clean images from visible ones (He et al. 2022).

    Args:
        net: the autoencoder; shared, not copied.
        mask_ratio: share of the patches that is hidden, drawn for each image and step.
    """

    def __init__(self, net: MaskedAutoencoder, mask_ratio: float) -> None:
        super().__init__()
        self.net = net
        self.seen = visible_count(net.patches, mask_ratio)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of the hidden pixels, a scalar; labels are not used."""
        patches = self.net.split(x)
        shuffled = torch.rand(patches.shape[:2], device=x.device).argsort(1)
        hidden = shuffled[:, self.seen :, None].expand(-1, -1, patches.shape[-1])
        predicted = self.net(patches, shuffled[:, : self.seen])
        error: Tensor = predicted.gather(1, hidden) - patches.gather(1, hidden)
        return error.square().mean()


class MAEPart(rbmed.Part):
    """A part with the masked autoencoder; all these parts share its weights."""

    Params = MAEParams
    family = "mae"
    net: MaskedAutoencoder

    def build(self, channels: int, size: int) -> None:
        """Create the autoencoder; ``size`` must be a multiple of the patch, at least twice it.

        Raises:
            BadParameter: the patches do not tile the image.
        """
        p = self.params
        if size % p.patch or size < 2 * p.patch:
            name = self.spec_name or self.family
            raise BadParameter(f"{name}: patch={p.patch} must divide the image side, {size} px, at least twice")
        self.net = MaskedAutoencoder(
            channels, size, p.patch, p.width, p.depth, p.decoder_width, p.decoder_depth, p.heads
        )

    def learner(self, system: rbmed.System) -> HiddenPatches:
        """The autoencoder of this part, with its masked-patch loss."""
        return HiddenPatches(self.net, self.params.mask_ratio)

    def predict(self, patches: Tensor, visible: Tensor) -> Tensor:
        """Predictions of each image under each of several masks.

        Args:
            patches: (N, L, P).
            visible: int64 (M, V), the visible patches of each mask.

        Returns:
            Predicted patches (N, M, L, P).
        """
        masks = len(visible)
        predicted: Tensor = self.net(patches.repeat_interleave(masks, 0), visible.repeat(len(patches), 1))
        return predicted.view(len(patches), masks, *patches.shape[1:])


class Rebuilder(MAEPart):
    """Predicts every patch of an image while it is hidden.

    The masks are fixed, complementary, and the same for every image, so the reconstruction is deterministic and does
    not depend on the batch.
    """

    Params = RebuildParams
    visible: Tensor
    share: Tensor

    def build(self, channels: int, size: int) -> None:
        """Create the autoencoder and its masks; errors as `MAEPart.build`."""
        super().build(channels, size)
        p = self.params
        visible, hidden = complementary(self.net.patches, p.passes, p.score_mask_ratio, p.masks)
        self.register_buffer("visible", visible, persistent=False)
        # (passes * masks, L): how much each pass contributes to the reconstruction of a patch.
        self.register_buffer("share", hidden / hidden.sum(0), persistent=False)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructed images (N, C, H, W): each patch is the mean over the passes that hid it."""
        predicted = self.predict(self.net.split(x), self.visible)
        return self.net.join((predicted * self.share.unsqueeze(-1)).sum(1), x.shape[-1])

    def patch_errors(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        """Mean squared error of each patch, (N, L), row by row."""
        return self.net.split((x - rebuilt).square()).mean(-1)

    def pictures(self, x: Tensor, rng: rbmed.Stream) -> dict[str, Tensor]:
        """Images, the visible patches of one pass, and the reconstruction."""
        patches, seen = self.net.split(x), self.visible[0]
        masked = torch.zeros_like(patches).index_copy(1, seen, patches[:, seen])
        return {
            "image": x,
            "visible in one pass": self.net.join(masked, x.shape[-1]),
            "reconstruction": self.reconstruct(x),
        }


def visible_count(patches: int, mask_ratio: float) -> int:
    """Number of patches that are visible in training: at least one, and at least one is hidden."""
    return min(patches - 1, max(1, round(patches * (1 - mask_ratio))))
