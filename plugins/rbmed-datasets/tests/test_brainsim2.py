"""The second edition of brainsim: graded tumours, what is said about them, and the variant with kinds."""

from __future__ import annotations

import hashlib

import numpy as np
import pydantic
import pytest
import torch

from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.dataset import BrainSim, BrainSim2
from rbmed_datasets.brainsim.render import add_tumour, render
from rbmed_datasets.brainsim.scanner import HOSPITALS
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.tumours import KINDS, Tumour
from rbmed_datasets.brainsim.worker import MIN_JOBS, render_all
from robustbench_med.errors import BadParameter

#: Revision and blake2b digest of the bytes of a tiny configuration.
PINNED = (1, "fcf85ed442fccae815a0ad26f621a6d4")
SIZE = {"size": 32, "train_patients": 2, "calibration_patients": 1, "test_patients": 3, "test_slices": 2}
SETTINGS = sampling.Graded(size=48, train_patients=20)


@pytest.fixture(scope="module")
def data() -> BrainSim2:
    return BrainSim2(BrainSim2.Params(**SIZE))


def sick_patients() -> list[sampling.Patient]:
    people, labels = sampling.patients(SETTINGS, "train"), sampling.labels(SETTINGS, "train")
    return [patient for patient, label in zip(people, labels, strict=True) if label]


@pytest.fixture(scope="module")
def sick() -> list:
    return [render(SETTINGS, patient, 1) for patient in sick_patients()]


def tumour_of(settings: sampling.Graded, patient: sampling.Patient, label: int = 1) -> tuple[Tumour, float]:
    """The tumour that `render` draws, and its contrast before the scan."""
    scene = Scene(settings, patient)
    rng = sampling.generator(settings, "tumour", patient.split, patient.hospital, patient.number)
    tumour, signal, share = add_tumour(scene, rng, label)
    return tumour, scene.contrast(signal, share)


@pytest.fixture(scope="module")
def asked() -> np.ndarray:
    """Radius and contrast before the scan of each of the tumours of `sick`, (2, N)."""
    tumours = [tumour_of(SETTINGS, patient) for patient in sick_patients()]
    return np.array([[tumour.radius, contrast] for tumour, contrast in tumours]).T


def test_defaults_have_enough_patients_for_an_interval_of_four_points():
    card, params = BrainSim2().card(), BrainSim2.Params()
    patients = len(HOSPITALS) * params.test_patients
    assert params.test_slices == 1
    assert patients >= 256
    assert 1.96 * 0.5 / patients**0.5 <= 0.0401, "at an accuracy of 50 %, the widest"
    assert card.name == "brainsim2"
    assert card.digest != BrainSim().card().digest
    assert card.lesion_class == card.classes.index("tumour")
    assert card.synthetic


def test_splits_have_their_own_numbers_of_slices(data):
    assert len(data.split("train")) == 4 * 2 * 2
    assert len(data.split("test")) == 4 * 3 * 2
    default = BrainSim2(BrainSim2.Params(**{**SIZE, "test_slices": 1})).split("test")
    assert len(default) == len(set(default.patients)) == 12


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_lesions_are_measured_where_there_are_any(data, split):
    found = data.split(split)
    assert sorted(found.lesions) == ["contrast", "radius"]
    for values in found.lesions.values():
        assert values.dtype == torch.float32
        assert torch.equal(~values.isnan(), found.labels == 1)
    part = found.select(torch.tensor([1, 0]))
    assert torch.equal(part.lesions["radius"][:1].nan_to_num(), found.lesions["radius"][1:2].nan_to_num())


def test_the_first_edition_says_nothing_about_its_lesions():
    few = {"size": 32, "train_patients": 1, "calibration_patients": 1, "test_patients": 1, "slices": 1}
    assert BrainSim(BrainSim.Params(**few)).split("test").lesions == {}


def test_masks_and_pairs_agree_with_labels(data):
    split = data.split("test")
    found = split.labels.bool()
    assert torch.equal(split.masks.flatten(1).any(1), found)
    assert torch.equal((split.images != split.counterfactuals).flatten(1).any(1), found)


def test_tumours_have_the_stated_sizes_and_contrasts(sick, asked):
    radius = np.concatenate([done.lesions[0] for done in sick])
    asked, target = asked
    assert 4 <= asked.min() < 9
    assert 24 < asked.max() <= 27
    quartiles = (16 + np.array([0.25, 0.5, 0.75]) * (27**2 - 16)) ** 0.5
    assert np.abs(np.quantile(asked, [0.25, 0.5, 0.75]) - quartiles).max() < 4, "uniform in the area"
    assert np.corrcoef(radius, asked.repeat(2))[0, 1] > 0.97
    assert (radius < 1.15 * asked.repeat(2)).all()
    assert target.min() >= 0.19
    assert 0.45 < target.max() < 1
    assert ((target * asked > 1.99).mean() > 0.95).all(), "small tumours have more contrast"


def test_contrast_is_the_change_against_the_same_scan_without_the_tumour(sick, asked):
    for done in sick[:5]:
        change = np.abs(done.images.astype(float) - done.counterfactuals) / 255
        for k, mask in enumerate(done.masks):
            assert done.lesions[1][k] == pytest.approx(change[k][mask].mean())
    measured = np.array([done.lesions[1].min() for done in sick])
    radius, target = asked
    large = radius > 8
    assert np.corrcoef(measured[large], target[large])[0, 1] > 0.6, "up to blur, display curve and clipping"


def test_the_smallest_and_weakest_tumours_are_in_every_slice():
    settings = sampling.Graded(size=32, train_patients=6, min_radius=4, max_radius=4, min_contrast=0.4)
    for patient in sampling.patients(settings, "train"):
        done = render(settings, patient, 1)
        assert done.masks.any(axis=(1, 2)).all()
        assert (done.lesions[0] > 1.5).all()
        assert (done.lesions[1] > 0).all()


@pytest.mark.parametrize("label", [0, 1, 2])
def test_kind_is_the_label_of_the_variant(label):
    settings = sampling.Graded(task="kind", size=32)
    patient = sampling.patients(settings, "test")[7]
    assert tumour_of(settings, patient, label)[0].kind == KINDS[label]
    assert render(settings, patient, label).masks.any()


def test_every_hospital_has_its_own_mix_of_kinds():
    data = BrainSim2(BrainSim2.Params(task="kind"))
    card = data.card()
    assert card.classes == KINDS
    assert card.lesion_class is None
    labels = sampling.labels(data.params, "test").reshape(4, 150)
    shares = np.array([np.bincount(row, minlength=3) / 150 for row in labels])
    assert (shares > 0.2).all()
    assert len({tuple(row) for row in shares.tolist()}) == 3, "four hospitals, three mixes"
    few = sampling.labels(sampling.Graded(task="kind", test_patients=1), "test")
    assert len(few) == 4


def test_nothing_but_the_label_depends_on_the_task():
    patient = sampling.patients(SETTINGS, "train")[3]
    presence, kind = (
        render(SETTINGS.model_copy(update={"size": 32, "task": task}), patient, 1) for task in ("presence", "kind")
    )
    assert np.array_equal(presence.counterfactuals, kind.counterfactuals)


@pytest.mark.parametrize("position", [0, 37, 79])
def test_only_the_tumour_depends_on_the_label(position):
    patient = sampling.patients(SETTINGS, "train")[position]
    ill, healthy = render(SETTINGS, patient, 1), render(SETTINGS, patient, 0)
    assert np.array_equal(ill.counterfactuals, healthy.images)
    assert not healthy.masks.any()
    assert np.isnan(healthy.lesions[0]).all()


def test_editions_share_no_random_stream():
    first, second = sampling.Settings(), sampling.Graded()
    assert sampling.generator(first, "anatomy").random() != sampling.generator(second, "anatomy").random()


def test_digest_follows_every_parameter():
    base = sampling.Graded()
    other = {"task": "kind", "size": 96, "seed": 1, "min_radius": 5.0, "max_radius": 20.0}
    other |= {"min_contrast": 0.1, "detail": 0.1}
    other |= {"gap": 2}
    settings = [base, *(base.model_copy(update={name: other.get(name, 3)}) for name in type(base).model_fields)]
    assert len({each.digest() for each in settings}) == len(settings)


def test_same_bytes_for_any_number_of_workers():
    settings = sampling.Graded(size=32, train_patients=MIN_JOBS // 2)
    jobs = list(zip(sampling.patients(settings, "train"), sampling.labels(settings, "train").tolist(), strict=True))
    one, two = (dict(render_all(settings, jobs, workers=workers)) for workers in (1, 2))
    assert one.keys() == two.keys() == set(range(len(jobs)))
    for key in one:
        assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one[key], two[key], strict=True))


def test_rendered_bytes_are_pinned():
    # A change here changes published numbers: raise sampling.GRADED_REVISION with it.
    settings = sampling.Graded(size=32, train_patients=1)
    jobs = [(patient, 1) for patient in sampling.patients(settings, "train")]
    done = dict(render_all(settings, jobs, workers=1))
    total = hashlib.blake2b(digest_size=16)
    for position in range(len(jobs)):
        for array in done[position][:3]:
            total.update(array.tobytes())
    assert (sampling.GRADED_REVISION, total.hexdigest()) == PINNED


def test_splits_are_read_again_as_they_were_rendered(tmp_path, monkeypatch):
    monkeypatch.setenv("RBMED_HOME", str(tmp_path))
    first = BrainSim2(BrainSim2.Params(**SIZE)).split("test")
    monkeypatch.setattr("rbmed_datasets.brainsim.dataset.render_all", None)
    second = BrainSim2(BrainSim2.Params(**SIZE)).split("test")
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.lesions["contrast"].nan_to_num(), second.lesions["contrast"].nan_to_num())


def test_unknown_split_is_named(data):
    with pytest.raises(BadParameter, match="brainsim2 has no split 'validation'"):
        data.split("validation")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"task": "grade"}, "task"),
        ({"size": 65}, "size"),
        ({"min_radius": 20, "max_radius": 10}, "min_radius=20 is larger than max_radius=10"),
        ({"min_contrast": 0}, "min_contrast"),
        ({"detail": -1}, "detail"),
        ({"slices": 4}, "slices over 9 mm"),
        ({"test_slices": 3}, "slices over 6 mm"),
        ({"slices": 3, "gap": 3, "min_radius": 5}, "slices over 6 mm"),
        ({"slices": 5}, "slices"),
        ({"max_radius": 30}, "max_radius"),
        ({"min_cnr": 3}, "min_cnr"),
    ],
)
def test_bad_parameters_are_refused_by_name(bad, named):
    with pytest.raises(pydantic.ValidationError, match=named):
        BrainSim2.Params(**bad)


@pytest.mark.parametrize("good", [{"slices": 4, "gap": 1}, {"slices": 4, "min_radius": 10}, {"slices": 1, "gap": 4}])
def test_slices_that_meet_every_tumour_are_accepted(good):
    settings = BrainSim2.Params(**good).model_copy(update={"size": 32})
    smallest = settings.model_copy(update={"max_radius": settings.min_radius})
    for patient in sampling.patients(smallest, "train")[:8]:
        assert render(smallest, patient, 1).masks.any(axis=(1, 2)).all()
