"""Specs of this distribution; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_med import PurifierSpec, hookimpl

PURIFIERS = (
    # Diffusion; all but the bridge share one trained U-Net.
    PurifierSpec(
        name="ddpm",
        target="rbmed_purifiers.diffusion.samplers:DDPMPurifier",
        summary="Diffusion: noise the image to a time t that follows the strength, then all t ancestral steps",
        title="DDPM purification",
        paper="Denoising Diffusion Probabilistic Models",
        venue="NeurIPS 2020",
        reference="Ho et al. 2020, arXiv:2006.11239; Karami et al. 2025, MedFedPure, arXiv:2511.11625",
        revision=2,
    ),
    PurifierSpec(
        name="ddim",
        target="rbmed_purifiers.diffusion.samplers:DDIMPurifier",
        summary="Diffusion: noise the image to a time that follows the strength, then 1 to 20 deterministic steps",
        title="DDIM purification",
        paper="Denoising Diffusion Implicit Models",
        venue="ICLR 2021",
        reference="Song et al. 2021, arXiv:2010.02502; Karami et al. 2025, MedFedPure, arXiv:2511.11625",
    ),
    PurifierSpec(
        name="one-step",
        target="rbmed_purifiers.diffusion.samplers:OneStepPurifier",
        summary="Diffusion: noise the image to a time that follows the strength, then one denoising step; fast",
        title="One-step denoising",
        paper="(Certified!!) Adversarial Robustness for Free!",
        venue="ICLR 2023",
        reference="Carlini et al. 2022, (Certified!!) adversarial robustness for free, arXiv:2206.10550",
    ),
    PurifierSpec(
        name="diffpure",
        target="rbmed_purifiers.diffusion.samplers:DiffPurePurifier",
        summary="Diffusion: one fixed time, then the reverse stochastic differential equation by Euler-Maruyama",
        title="DiffPure",
        paper="Diffusion Models for Adversarial Purification",
        venue="ICML 2022",
        reference="Nie et al. 2022, DiffPure, arXiv:2205.07460",
    ),
    PurifierSpec(
        name="gdmp",
        target="rbmed_purifiers.diffusion.samplers:GDMPPurifier",
        summary="Diffusion whose ancestral steps are guided towards the noised image",
        title="GDMP",
        paper="Guided Diffusion Model for Adversarial Purification",
        venue="arXiv 2022",
        reference="Wang et al. 2022, Guided diffusion model for adversarial purification, arXiv:2205.14969",
    ),
    PurifierSpec(
        name="gradual",
        target="rbmed_purifiers.diffusion.samplers:GradualPurifier",
        summary="Diffusion: eight purifications in a row, at times that grow",
        title="Gradual diffusion purification",
        paper="Robust Evaluation of Diffusion-Based Adversarial Purification",
        venue="ICCV 2023",
        reference="Lee & Kim 2023, arXiv:2303.09051",
    ),
    PurifierSpec(
        name="bridge",
        target="rbmed_purifiers.diffusion.bridge:BridgePurifier",
        summary="Diffusion trained to lead from noised attacked images to clean ones, in a few deterministic steps",
        title="Diffusion bridge",
        paper="ADBM: Adversarial Diffusion Bridge Model for Reliable Adversarial Purification",
        venue="ICLR 2025",
        reference="Li et al. 2024, ADBM, arXiv:2408.00315; Liu et al. 2024, ADDT, arXiv:2404.14309",
    ),
    # Classical, learned, wrappers, controls.
    PurifierSpec(
        name="jpeg",
        target="rbmed_purifiers.classical.jpeg:JPEG",
        summary="JPEG compression with libjpeg's pixels and a gradient; quality decreases with strength",
        title="JPEG compression",
        paper="Countering Adversarial Images using Input Transformations",
        venue="ICLR 2018",
        reference="Guo et al. 2018, arXiv:1711.00117; Shin & Song 2017, JPEG-resistant adversarial images",
    ),
    PurifierSpec(
        name="median",
        target="rbmed_purifiers.classical.squeezing:MedianFilter",
        summary="Median filter, blended in by strength",
        title="Median filter",
        paper="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
        venue="NDSS 2018",
        reference="Xu et al. 2018, Feature squeezing, arXiv:1704.01155",
    ),
    PurifierSpec(
        name="bit-depth",
        target="rbmed_purifiers.classical.squeezing:BitDepth",
        summary="Fewer bits per pixel with strength; no gradient unless gradient=straight",
        title="Bit-depth reduction",
        paper="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
        venue="NDSS 2018",
        reference="Xu et al. 2018, Feature squeezing, arXiv:1704.01155",
    ),
    PurifierSpec(
        name="total-variation",
        target="rbmed_purifiers.classical.tv:TotalVariation",
        summary="Total-variation denoising, its weight set by strength",
        title="Total-variation denoising",
        paper="Nonlinear Total Variation Based Noise Removal Algorithms",
        venue="Physica D 1992",
        reference="Rudin, Osher & Fatemi 1992, Physica D 60:259-268; Guo et al. 2018, arXiv:1711.00117",
    ),
    PurifierSpec(
        name="gaussian",
        target="rbmed_purifiers.classical.squeezing:GaussianBlur",
        summary="Gaussian blur, its sigma set by strength",
        title="Gaussian blur",
        paper="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
        venue="NDSS 2018",
        reference="Xu et al. 2018, Feature squeezing, arXiv:1704.01155 (spatial smoothing)",
    ),
    PurifierSpec(
        name="wavelet",
        target="rbmed_purifiers.classical.wavelet:Wavelet",
        summary="Soft thresholding of wavelet details, the threshold set by strength",
        title="Wavelet denoising",
        paper="De-noising by Soft-Thresholding",
        venue="IEEE Transactions on Information Theory 1995",
        reference="Donoho 1995, De-noising by soft-thresholding, IEEE Trans. Inf. Theory 41:613-627",
    ),
    PurifierSpec(
        name="dae",
        target="rbmed_purifiers.learned.dae:DAE",
        summary="Denoising autoencoder trained over the clients, blended in by strength",
        title="Denoising autoencoder",
        paper="Extracting and Composing Robust Features with Denoising Autoencoders",
        venue="ICML 2008",
        reference="Vincent et al. 2008, ICML; Meng & Chen 2017, MagNet, arXiv:1705.09064",
    ),
    PurifierSpec(
        name="majority",
        target="rbmed_purifiers.wrappers.voters:Majority",
        summary="Vote over several purified copies, each with its own noise: majority:purifier=[ddim:steps=4],copies=8",
        title="Majority of purified copies",
        paper="DiffBreak: Is Diffusion-Based Purification Robust?",
        venue="arXiv 2024",
        reference="Kassis et al. 2024, DiffBreak, arXiv:2411.16598",
    ),
    PurifierSpec(
        name="ensemble",
        target="rbmed_purifiers.wrappers.voters:Ensemble",
        summary="Vote over different purifiers: ensemble:purifiers=[[jpeg],[median:radius=2]]",
        title="Ensemble of purifiers",
        paper="DiffBreak: Is Diffusion-Based Purification Robust?",
        venue="arXiv 2024",
        reference="Kassis et al. 2024, DiffBreak, arXiv:2411.16598 (voting)",
    ),
    PurifierSpec(
        name="smoothed",
        target="rbmed_purifiers.wrappers.smoothed:Smoothed",
        summary="Randomized smoothing: noisy copies, denoised in one step, vote; `rbmed certify` gives L2 radii",
        title="Randomized smoothing",
        paper="(Certified!!) Adversarial Robustness for Free!",
        venue="ICLR 2023",
        reference="Cohen et al. 2019, arXiv:1902.02918; Carlini et al. 2022, arXiv:2206.10550",
    ),
    PurifierSpec(
        name="identity",
        target="rbmed_purifiers.controls:Identity",
        summary="Control: changes nothing",
        title="No purification",
    ),
    PurifierSpec(
        name="clamp",
        target="rbmed_purifiers.controls:ClampPurifier",
        summary="Control: clamps to [0, 1], which changes no valid image",
        title="Clamping",
    ),
)


@hookimpl
def rbmed_purifiers() -> Iterable[PurifierSpec]:
    """The purifiers."""
    return PURIFIERS
