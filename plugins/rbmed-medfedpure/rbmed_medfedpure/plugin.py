"""Specs of the reference defense and its baseline."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import DefenseSpec, hookimpl


@hookimpl
def rbmed_defenses() -> Iterator[DefenseSpec]:
    """Two recipes, with weights trained on the embedded data set."""
    yield DefenseSpec(
        name="medfedpure",
        target="rbmed_medfedpure.recipes:MedFedPure",
        summary="Personalized mixture of experts + MAE detector + diffusion purifier",
        reference="Karami et al., MedFedPure, arXiv 2511.11625 (2025)",
        weights="rbmed_medfedpure:weights",
    )
    yield DefenseSpec(
        name="undefended",
        target="rbmed_medfedpure.recipes:Undefended",
        summary="The FedAvg classifier alone, same backbone as medfedpure",
        reference="McMahan et al., Communication-efficient learning of deep networks, AISTATS 2017",
        weights="rbmed_medfedpure:weights",
    )
