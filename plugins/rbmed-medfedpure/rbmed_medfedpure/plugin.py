"""Specs of the reference defense, its baseline, and defenses that put a part in front of the baseline."""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_med import DefenseSpec, hookimpl

#: Presets for data sets of other sizes, which names leave out.
_SIZES = (("preset=few", ""), ("preset=many", ""))
DEFENSES = (
    # MedFedPure, and what became of it here.
    DefenseSpec(
        name="medfedpure",
        target="rbmed_medfedpure.recipes.medfedpure:MedFedPure",
        summary="Personalized mixture of experts + MAE detector + diffusion purifier; ablations",
        title="MedFedPure",
        paper="MedFedPure: A Medical Federated Framework with MAE-based Detection and Diffusion "
        "Purification for Inference-Time Attacks",
        venue="arXiv 2025",
        reference="Karami et al., MedFedPure, arXiv 2511.11625 (2025)",
        weights="rbmed_medfedpure:weights",
        reproduction="rbmed_medfedpure:br35h.toml",
        variants=(
            ("ablation=no-detector", "without detector"),
            ("ablation=no-purifier", "without purifier"),
            ("ablation=random-detector", "random detector"),
            ("ablation=fixed-strength", "fixed strength"),
            ("ablation=fedavg-backbone", "FedAvg backbone"),
            ("ablation=shared-gates", "shared gates"),
            ("score=reconstruction", "published score"),
            ("score=consistency", "consistency score"),
            ("score=combined", "combined score"),
            *_SIZES,
        ),
    ),
    DefenseSpec(
        name="medfedpure-plus",
        target="rbmed_medfedpure.recipes.plus:MedFedPurePlus",
        summary="Adversarially trained classifiers that abstain at low confidence",
        title="MedFedPure-plus",
        reference="Kim et al., pFedDef, AISTATS 2023, arXiv 2209.08412; preset=many: Zhang et al., TRADES, ICML 2019, "
        "arXiv 1901.08573; with a reject option",
        variants=(("detector=none", "without reject option"), *_SIZES),
        weights="rbmed_medfedpure:weights",
    ),
    # The classifier alone, and with a part in front of it; any combination of parts.
    DefenseSpec(
        name="undefended",
        target="rbmed_medfedpure.recipes.undefended:Undefended",
        summary="The FedAvg classifier alone, same backbone as medfedpure",
        title="No defense",
        paper="Communication-Efficient Learning of Deep Networks from Decentralized Data",
        venue="AISTATS 2017",
        reference="McMahan et al., Communication-efficient learning of deep networks, AISTATS 2017",
        bare=True,
        variants=_SIZES,
        weights="rbmed_medfedpure:weights",
    ),
    DefenseSpec(
        name="shielded",
        target="rbmed_medfedpure.recipes.undefended:Shielded",
        summary="The undefended classifier behind any purifier, detector, or both",
        title="Shielded classifier",
        bare=True,
        variants=_SIZES,
        weights="rbmed_medfedpure:weights",
    ),
    DefenseSpec(
        name="diffpure",
        target="rbmed_medfedpure.recipes.undefended:DiffPure",
        summary="The undefended classifier with every image diffused and denoised",
        title="DiffPure",
        paper="Diffusion Models for Adversarial Purification",
        venue="ICML 2022",
        reference="Nie et al., Diffusion models for adversarial purification, ICML 2022, arXiv 2205.07460",
        weights="rbmed_medfedpure:weights",
    ),
    DefenseSpec(
        name="smoothed",
        target="rbmed_medfedpure.recipes.undefended:Smoothed",
        summary="The undefended classifier under randomized smoothing with one-step denoising; certifiable in L2",
        title="Denoised smoothing",
        paper="(Certified!!) Adversarial Robustness for Free!",
        venue="ICLR 2023",
        reference="Cohen et al. 2019, arXiv 1902.02918; Carlini et al. 2022, arXiv 2206.10550",
        weights="rbmed_medfedpure:weights",
    ),
    DefenseSpec(
        name="recipe",
        target="rbmed_medfedpure.recipes.recipe:RecipeDefense",
        summary="Any combination of parts, without code: --defense mine.toml",
        title="Recipe",
    ),
)


@hookimpl
def rbmed_defenses() -> Iterable[DefenseSpec]:
    """The recipes; the first three ship weights."""
    return DEFENSES
