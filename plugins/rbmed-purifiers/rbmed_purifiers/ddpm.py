"""MedFedPure's purifier: diffuse an image to a time that follows its score, then denoise it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import pydantic
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import robustbench_med as rbmed
from robustbench_med import checkpoint
from robustbench_med.errors import BadParameter, RbmedError

Precision = Literal["auto", "float32", "bfloat16"]
#: (images, times now, times then) -> images.
Step = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Steps of the forward process and its linear noise schedule, as published.
TIMES, BETA_FIRST, BETA_LAST = 1000, 1e-4, 2e-2
#: Training steps between checkpoints.
SAVE_EVERY = 500
#: Images denoised together, at least: few fit the caches of a CPU, many fill a GPU. Fewer than twice as many at most.
CHUNK = {"cpu": 16, "cuda": 256}
#: Images times steps whose activations may be kept for the gradient; more are recomputed.
STORED = {"cpu": 64, "cuda": 512}


#: Marks a parameter that the trained weights do not depend on.
RUNTIME: dict[str, Any] = {"json_schema_extra": {"runtime": True}}


class DDPMParams(rbmed.Params):
    """Parameters of the network, its training and the purification."""

    width: int = Field(32, ge=8, multiple_of=8, description="Channels of the first level; each level doubles them.")
    levels: int = Field(3, ge=1, le=5, description="Resolution levels of the U-Net.")
    blocks: int = Field(1, ge=1, description="Residual blocks per level on the way down (one more on the way up).")
    fold: int = Field(2, ge=1, description="Fold squares of fold x fold pixels into channels; 2 is 4 x cheaper than 1.")
    t_min: int = Field(50, ge=1, le=TIMES, **RUNTIME, description="Diffusion time at strength 0.")
    t_max: int = Field(150, ge=1, le=TIMES, **RUNTIME, description="Diffusion time at strength 1.")
    steps: int = Field(2, ge=1, **RUNTIME, description="Denoising steps (strided DDIM).")
    train_t_max: int = Field(200, ge=1, le=TIMES, description="Largest diffusion time trained for.")
    train_steps: int = Field(5000, ge=1, description="Training steps.")
    batch_size: int = Field(32, ge=1, description="Training images per step.")
    lr: float = Field(6e-4, gt=0, description="Peak learning rate (AdamW, warm-up, then cosine to 0).")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the running mean of weights that is kept in the end.")
    train_precision: Precision = Field(
        "auto", description="Arithmetic of the U-Net in training; auto: bfloat16 where the device has it in hardware."
    )
    precision: Precision = Field(
        "float32",
        **RUNTIME,
        description="Arithmetic of purification; bfloat16 is faster, but shifts pixels by up to 0.002 with the size of "
        "the batch, so results then depend on it.",
    )

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> DDPMParams:
        if not self.t_min <= self.t_max <= self.train_t_max:
            raise ValueError(f"need t_min <= t_max <= train_t_max, not {self.t_min}, {self.t_max}, {self.train_t_max}")
        if self.steps > self.t_min:
            raise ValueError(f"steps={self.steps} denoising steps do not fit into t_min={self.t_min} diffusion times")
        return self


class DDPMPurifier(rbmed.Purifier):
    """Epsilon-predicting diffusion model (Ho et al. 2020) run as a purifier (Nie et al. 2022).

    Times t count from 1, as in the papers; t = 0 is the clean image. The U-Net works on images folded by
    pixel-unshuffle, since a small image has few details that need full resolution (Hoogeboom et al. 2023, 2301.11093).
    It is trained for times up to ``train_t_max`` only: purification never goes further.
    """

    Params = DDPMParams
    net: nn.Module
    alpha_bar: Tensor

    def build(self, channels: int, size: int) -> None:
        """Create the U-Net; ``size`` must be a multiple of ``fold * 2 ** (levels - 1)``."""
        p = self.params
        unit = p.fold * 2 ** (p.levels - 1)
        if size % unit:
            raise BadParameter(f"purifier ddpm: fold={p.fold} and levels={p.levels} need an image side that is a "
                               f"multiple of {unit}, not {size} px")  # fmt: skip
        self.net = UNet2DModel(
            sample_size=size // p.fold,
            in_channels=channels * p.fold**2,
            out_channels=channels * p.fold**2,
            block_out_channels=tuple(p.width * 2**level for level in range(p.levels)),
            down_block_types=("DownBlock2D",) * p.levels,
            up_block_types=("UpBlock2D",) * p.levels,
            layers_per_block=p.blocks,
            norm_num_groups=8,
            add_attention=False,
        )
        # alpha_bar[t] for t = 0..TIMES: the share of the clean image's variance that is left at time t.
        alpha_bar = torch.cat([torch.ones(1), _schedule().alphas_cumprod])
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)

    def times(self, strength: Tensor) -> Tensor:
        """The diffusion time of each image, int64 (N,): t_min + (t_max - t_min) * strength, rounded."""
        p = self.params
        times: Tensor = p.t_min + (p.t_max - p.t_min) * strength.detach().clamp(0, 1)
        return times.round().long()

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Diffuse each image to its own time, then run ``steps`` deterministic DDIM steps (Song et al. 2021).

        Differentiable in ``x``, not in ``strength`` (times are whole numbers). The result is clamped to [0, 1].
        """
        start, steps = self.times(strength), self.params.steps
        signal, noise = self._levels(start)
        z = signal * self._fold(x) + noise * self._fold(rng.normal(tuple(x.shape)), centre=False)
        # Never fewer than CHUNK images together: with a handful the last bits of a result differ.
        parts = max(1, len(x) // CHUNK[x.device.type])
        each = zip(z.tensor_split(parts), start.tensor_split(parts), strict=True)
        z = torch.cat([self._sample(*part, steps * len(x) > STORED[x.device.type]) for part in each])
        return F.pixel_shuffle(z, self.params.fold).add(1).div(2).clamp(0, 1)

    def _sample(self, z: Tensor, start: Tensor, large: bool) -> Tensor:
        """Denoise from times ``start`` to 0.

        For a gradient of ``large`` work, of the images alone, memory hardly grows with the number of steps; see
        `_Recomputed`. A small one is stored, which is faster.
        """
        steps = self.params.steps
        times = [start * left // steps for left in range(steps, -1, -1)]
        if (
            large
            and torch.is_grad_enabled()
            and z.requires_grad
            and not any(p.requires_grad for p in self.net.parameters())
        ):
            sampled: Tensor = _Recomputed.apply(z, self._denoise, times)
            return sampled
        for now, then in pairwise(times):
            z = self._denoise(z, now, then)
        return z

    def _denoise(self, z: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """One DDIM step from times ``now`` to ``then``, int64 (N,).

        diffusers' DDIMScheduler.step takes one time for the whole batch. Here each image has its own, and grouping
        images by time would make batches of one or two: so the same update is written for a vector of times.
        """
        signal, noise = self._levels(now)
        eps = self._epsilon(z, now, self.params.precision)
        clean = (z - noise * eps) / signal
        signal, noise = self._levels(then)
        return signal * clean + noise * eps

    def _epsilon(self, z: Tensor, t: Tensor, precision: str) -> Tensor:
        """The noise that the U-Net sees in ``z``, in the type of ``z``."""
        with torch.autocast(z.device.type, torch.bfloat16, enabled=_bfloat16(precision, z.device)):
            predicted: Tensor = self.net(z, t).sample
        return predicted.to(z.dtype)

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviations of signal and noise at times ``t``, each (N, 1, 1, 1)."""
        alpha = self.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def _fold(self, x: Tensor, centre: bool = True) -> Tensor:
        """Pixels into channels; ``centre`` maps [0, 1] to [-1, 1]."""
        return F.pixel_unshuffle(x * 2 - 1 if centre else x, self.params.fold)

    def fit(self, images: Tensor, job: rbmed.TrainJob) -> dict[str, float]:
        """Learn to predict the noise in diffused clean images; resumes at the last checkpoint."""
        p, net = self.params, self.to(job.device).net.train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=p.lr, weight_decay=1e-4, fused=True)
        mean = AveragedModel(net, multi_avg_fn=self._average)
        both = nn.ModuleDict({"net": net, "mean": mean})
        file = None if job.checkpoints is None else job.checkpoints / "ddpm.safetensors"
        run: dict[str, Any] = {"params": p.model_dump(mode="json"), "seed": job.seed, "images": list(images.shape)}
        facts = {} if file is None else checkpoint.load(file, both, optimizer, run)
        first, smooth = int(facts.get("step", 0)), float(facts.get("loss", math.nan))
        with job.progress.task("train ddpm", total=p.train_steps) as task:
            task.advance(first)
            for step in range(first, p.train_steps):
                loss = self._step(images, step, optimizer, job)
                mean.update_parameters(net)
                smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
                if not math.isfinite(loss):
                    raise RbmedError(f"purifier ddpm: training diverged at step {step + 1}; lower lr (now {p.lr:g})")
                if file is not None and ((step + 1) % SAVE_EVERY == 0 or step + 1 == p.train_steps):
                    checkpoint.save(file, both, optimizer, {**run, "step": step + 1, "loss": smooth})
                task.advance(note=f"loss {smooth:.4f}")
        net.load_state_dict(mean.module.state_dict())
        net.eval()
        return {"loss": smooth, **self._quality(images[:64].to(job.device), job.seed)}

    def _step(self, images: Tensor, step: int, optimizer: torch.optim.Optimizer, job: rbmed.TrainJob) -> float:
        """One training step; return its loss."""
        p = self.params
        # Seeded by the step, not carried on: a resumed training then draws the same numbers as an uninterrupted one.
        chance = torch.Generator().manual_seed(rbmed.seed_of(job.seed, "ddpm", step))
        rows = torch.randint(len(images), (p.batch_size,), generator=chance)
        clean = self._fold(images[rows].to(job.device))
        noise = torch.randn(clean.shape, generator=chance).to(job.device)
        t = torch.randint(1, p.train_t_max + 1, (p.batch_size,), generator=chance).to(job.device)
        # diffusers counts times from 0.
        noised = _schedule().add_noise(clean, noise, t - 1)
        warm, decay = min(1.0, (step + 1) / 200), 0.5 * (1 + math.cos(math.pi * step / p.train_steps))
        for group in optimizer.param_groups:
            group["lr"] = p.lr * warm * decay
        loss = F.mse_loss(self._epsilon(noised, t, p.train_precision), noise)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    @torch.no_grad()
    def _average(self, means: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        """Exponential moving average whose decay warms up, so that a short training forgets its initial weights."""
        decay = min(self.params.ema, (1 + int(updates)) / (10 + int(updates)))
        for mean, value in zip(means, current, strict=True):
            mean.lerp_(value, 1 - decay)

    @torch.no_grad()
    def _quality(self, images: Tensor, seed: int) -> dict[str, float]:
        """PSNR in dB of images diffused to the middle of the range, and of what purification makes of them."""
        rng = rbmed.Stream.named("ddpm-quality", seed, torch.arange(len(images), device=images.device))
        half = torch.full((len(images),), 0.5, device=images.device)
        signal, noise = self._levels(self.times(half))
        drawn = rng[:].normal(tuple(images.shape))
        noised = (images + noise / signal / 2 * drawn).clamp(0, 1)
        return {"psnr_noised": _psnr(noised, images), "psnr_purified": _psnr(self.purify(images, half, rng), images)}


class _Recomputed(torch.autograd.Function):
    """All steps of a sampler, of which only the inputs are kept: a step's graph is built in the backward pass.

    As gradient checkpointing (Chen et al. 2016, arXiv:1604.06174) of each step. `torch.utils.checkpoint` leaves the
    kept inputs scattered between freed blocks; the C library then cannot reuse those, and a process grew by a fifth of
    a step's memory with each step. Here they lie in one block.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, step: Step, times: list[Tensor]) -> Tensor:
        """The last output of ``step(z, now, then)``, applied to each pair of neighbouring times."""
        inputs = z.new_empty(len(times) - 1, *z.shape)
        for at, (now, then) in enumerate(pairwise(times)):
            inputs[at] = z
            z = step(z, now, then)
        ctx.save_for_backward(inputs)
        ctx.step, ctx.times = step, times
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the first input."""
        (inputs,) = ctx.saved_tensors
        for z, (now, then) in reversed(list(zip(inputs, pairwise(ctx.times), strict=True))):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                after = ctx.step(z, now, then)
            (grad,) = torch.autograd.grad(after, z, grad)
        return grad, None, None


def _schedule() -> Any:
    return DDPMScheduler(TIMES, beta_start=BETA_FIRST, beta_end=BETA_LAST, beta_schedule="linear")


def _bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: on a device without instructions for it, it would be slower than float32."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-12))
