"""The data set brainsim: contract, cache, reproducibility."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pydantic
import pytest
import torch

import robustbench_med as rbmed
from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.dataset import BrainSim
from rbmed_datasets.brainsim.worker import MIN_JOBS, render_all
from robustbench_med.errors import BadParameter

#: Revision and blake2b digest of the bytes of a tiny configuration.
PINNED = (1, "554e10ff5f77f9b0ae5237bc8a6b4b35")
SIZE = {"size": 32, "train_patients": 2, "calibration_patients": 1, "test_patients": 2, "slices": 2}


@pytest.fixture(scope="module")
def data() -> BrainSim:
    return BrainSim(BrainSim.Params(**SIZE))


def test_split_follows_the_contract(data):
    split = data.split("test")
    assert split.images.shape == (16, 1, 32, 32)
    assert split.images.dtype == torch.float32
    assert split.images.min() >= 0
    assert split.images.max() <= 1
    assert torch.equal(split.images * 255, (split.images * 255).round()), "an 8-bit export"
    assert split.labels.dtype == torch.int64
    assert split.masks.dtype == torch.bool
    assert split.masks.shape == (16, 1, 32, 32)
    assert sorted(set(split.sites)) == ["hospital-1", "hospital-2", "hospital-3", "hospital-4"]
    for site, part in split.by_site().items():
        assert len(part) == 4
        assert all(patient.startswith(site) for patient in part.patients)


def test_masks_and_pairs_agree_with_labels(data):
    split = data.split("test")
    sick = split.labels.bool()
    assert 0 < sick.sum() < len(sick)
    assert torch.equal(split.masks.flatten(1).any(1), sick)
    changed = (split.images != split.counterfactuals).flatten(1).any(1)
    assert torch.equal(changed, sick), "without a tumour the counterfactual is the image itself"


def test_only_the_test_split_keeps_pairs(data):
    assert data.split("train").counterfactuals is None
    assert data.split("calibration").counterfactuals is None


def test_no_patient_in_two_splits(data):
    seen = [set(data.split(name).patients) for name in ("train", "calibration", "test")]
    assert len(set.union(*seen)) == sum(len(part) for part in seen)


def test_a_patient_has_one_label(data):
    split = data.split("train")
    labels = {}
    for patient, label in zip(split.patients, split.labels.tolist(), strict=True):
        assert labels.setdefault(patient, label) == label


def test_card_renders_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RBMED_HOME", str(tmp_path))
    card = BrainSim().card()
    assert card.synthetic
    assert card.lesion_class == card.classes.index("tumour")
    assert any("synthetic" in note.lower() for note in card.notes)
    assert not list(tmp_path.iterdir())


def test_digest_follows_every_parameter():
    base = sampling.Settings()
    other = {"size": 96, "seed": 1, "min_cnr": 3.0, "min_area": 500.0}
    settings = [base, *(base.model_copy(update={name: other.get(name, 2)}) for name in type(base).model_fields)]
    assert len({s.digest() for s in settings}) == len(settings)


def test_split_is_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RBMED_HOME", str(tmp_path))
    data = BrainSim(BrainSim.Params(**SIZE))
    first = data.split("calibration")
    monkeypatch.setattr("rbmed_datasets.brainsim.dataset.render_all", None)
    second = BrainSim(BrainSim.Params(**SIZE)).split("calibration")
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.masks, second.masks)
    assert [path.suffix for path in (tmp_path / "brainsim").iterdir()] == [".npz"]


def test_same_bytes_for_any_number_of_workers():
    settings = sampling.Settings(size=32, train_patients=MIN_JOBS // 2, slices=1)
    people = sampling.patients(settings, "train")
    jobs = list(zip(people, sampling.labels(settings, "train").astype(bool).tolist(), strict=True))
    one = dict(render_all(settings, jobs, workers=1))
    two = dict(render_all(settings, jobs, workers=2))
    assert one.keys() == two.keys() == set(range(len(jobs)))
    for key in one:
        assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one[key], two[key], strict=True))


def test_rendered_bytes_are_pinned():
    # A change here changes published numbers: raise sampling.REVISION with it.
    settings = sampling.Settings(size=32, train_patients=1, slices=2)
    jobs = [(patient, True) for patient in sampling.patients(settings, "train")]
    done = dict(render_all(settings, jobs, workers=1))
    total = hashlib.blake2b(digest_size=16)
    for position in range(len(jobs)):
        for array in done[position][:3]:
            total.update(array.tobytes())
    assert (sampling.REVISION, total.hexdigest()) == PINNED


def test_impossible_thresholds_are_named():
    data = BrainSim(BrainSim.Params(**SIZE, min_cnr=12, min_area=3000))
    with pytest.raises(BadParameter, match="min_cnr=12"):
        data.split("train")


def test_impossible_thresholds_are_named_by_workers_too():
    settings = sampling.Settings(size=32, train_patients=MIN_JOBS // 2, slices=1).model_copy(update={"min_cnr": 40.0})
    jobs = [(patient, True) for patient in sampling.patients(settings, "train")]
    with pytest.raises(BadParameter, match="min_cnr=40"):
        dict(render_all(settings, jobs, workers=2))


def test_unknown_split_is_named(data):
    with pytest.raises(BadParameter, match="validation"):
        data.split("validation")


@pytest.mark.parametrize("bad", [{"size": 16}, {"size": 65}, {"slices": 0}, {"colour": True}])
def test_bad_parameters_are_refused(bad):
    with pytest.raises(pydantic.ValidationError):
        BrainSim.Params(**bad)


def test_workers_never_import_torch():
    code = "import sys, rbmed_datasets.brainsim.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sites_of_a_split_are_known_before_it_is_rendered() -> None:
    opened = rbmed.load_dataset("brainsim2:train_patients=2,calibration_patients=1,test_patients=3")
    named = {name: opened.sites_of(name) for name in ("train", "calibration", "test")}
    assert named == {name: opened.split(name).sites for name in named}
