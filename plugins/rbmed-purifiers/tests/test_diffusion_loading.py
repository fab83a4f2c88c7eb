"""What a diffusion purifier loads of diffusers, and when: checked in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from diffusers import DDPMScheduler

from rbmed_purifiers.diffusion.schedule import BETA_FIRST, BETA_LAST, TIMES, Schedule

LOADING = """
import sys
from rbmed_purifiers.diffusion.samplers import DDIMPurifier

purifier = DDIMPurifier()
assert "diffusers" not in sys.modules and "torch._dynamo" not in sys.modules
purifier.build(1, 64)
for package in ("unets", "transformers"):
    assert f"diffusers.models.{package}" not in sys.modules, package
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
assert "diffusers.models.transformers.transformer_flux" not in sys.modules

# Whoever wants the rest of diffusers finds it whole, with the same class.
from diffusers import FluxTransformer2DModel, UNet1DModel, UNet2DModel
import diffusers.models.unets
import torch._dynamo

assert torch._dynamo.allow_in_graph
assert type(purifier.net) is UNet2DModel is diffusers.models.unets.UNet2DModel
DDIMPurifier().build(1, 64)
"""


@pytest.mark.long
def test_diffusers_is_loaded_when_a_network_is_built_and_only_what_it_needs():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_schedule_is_that_of_diffusers_to_the_bit():
    theirs = DDPMScheduler(TIMES, beta_start=BETA_FIRST, beta_end=BETA_LAST, beta_schedule="linear").alphas_cumprod
    assert torch.equal(Schedule().alpha_bar, torch.cat([torch.ones(1), theirs]))
