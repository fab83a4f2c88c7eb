"""Specs of the reference defense, its baseline, and defenses that put a part in front of the baseline."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import DefenseSpec, hookimpl


@hookimpl
def rbmed_defenses() -> Iterator[DefenseSpec]:
    """The recipes; the first three ship weights trained on brainsim."""
    yield DefenseSpec(
        name="medfedpure",
        target="rbmed_medfedpure.recipes.medfedpure:MedFedPure",
        summary="Personalized mixture of experts + MAE detector + diffusion purifier; ablations",
        reference="Karami et al., MedFedPure, arXiv 2511.11625 (2025)",
        weights="rbmed_medfedpure:weights",
        reproduction="rbmed_medfedpure:br35h.toml",
    )
    yield DefenseSpec(
        name="medfedpure-plus",
        target="rbmed_medfedpure.recipes.plus:MedFedPurePlus",
        summary="Adversarially trained personalized experts that abstain at low confidence",
        reference="Kim et al., pFedDef, AISTATS 2023, arXiv 2209.08412; with a reject option",
        weights="rbmed_medfedpure:weights",
    )
    yield DefenseSpec(
        name="undefended",
        target="rbmed_medfedpure.recipes.undefended:Undefended",
        summary="The FedAvg classifier alone, same backbone as medfedpure",
        reference="McMahan et al., Communication-efficient learning of deep networks, AISTATS 2017",
        weights="rbmed_medfedpure:weights",
    )
    yield DefenseSpec(
        name="shielded",
        target="rbmed_medfedpure.recipes.undefended:Shielded",
        summary="The undefended classifier behind any purifier, detector, or both",
        weights="rbmed_medfedpure:weights",
    )
    yield DefenseSpec(
        name="diffpure",
        target="rbmed_medfedpure.recipes.undefended:DiffPure",
        summary="The undefended classifier with every image diffused and denoised",
        reference="Nie et al., Diffusion models for adversarial purification, ICML 2022, arXiv 2205.07460",
        weights="rbmed_medfedpure:weights",
    )
    yield DefenseSpec(
        name="recipe",
        target="rbmed_medfedpure.recipes.recipe:RecipeDefense",
        summary="Any combination of parts, without code: --defense mine.toml",
    )
