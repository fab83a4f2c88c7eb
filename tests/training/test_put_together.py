"""A defense whose parts ship with others is put together without its training images."""

from __future__ import annotations

from pathlib import Path

import pytest

import robustbench_med as rbmed
from robustbench_med.plugins.components import create
from robustbench_med.plugins.registry import Registry


def test_no_training_image_is_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RBMED_HOME", str(tmp_path))
    simulated = type(create(Registry(), "dataset", "brainsim"))
    split = simulated.split

    def watched(self: rbmed.Dataset, name: str) -> rbmed.Split:
        assert name != "train"
        return split(self, name)

    monkeypatch.setattr(simulated, "split", watched)
    artifact = rbmed.load_defense("shielded:median").artifact
    assert artifact.clients == ("hospital-1", "hospital-2", "hospital-3", "hospital-4")
    assert artifact.manifest["train_images"] == dict.fromkeys(artifact.clients, 1500)
