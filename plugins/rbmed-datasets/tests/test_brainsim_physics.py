"""The simulator behind brainsim: signal, geometry, scanner, and that nothing but the tumour depends on the label."""

from __future__ import annotations

import numpy as np
import pytest

from rbmed_datasets.brainsim import sampling
from rbmed_datasets.brainsim.anatomy import ScanGrid, head_coordinates, linear, to_scanner
from rbmed_datasets.brainsim.atlas import load_atlas
from rbmed_datasets.brainsim.render import add_tumour, render
from rbmed_datasets.brainsim.scanner import HOSPITALS, acquire, resample
from rbmed_datasets.brainsim.scene import Scene
from rbmed_datasets.brainsim.signal import SEQUENCES, TISSUES
from rbmed_datasets.brainsim.tumours import KINDS, draw_tumour

SETTINGS = sampling.Settings(size=64, train_patients=3)
PATIENTS = sampling.patients(SETTINGS, "train")


def signals(name: str) -> dict[str, float]:
    return {tissue: SEQUENCES[name].signal(values) for tissue, values in TISSUES.items()}


def test_contrasts_are_those_of_the_sequences():
    t1, t2, flair = signals("t1"), signals("t2"), signals("flair")
    assert t1["wm"] > t1["gm"] > t1["csf"]
    assert t2["csf"] > t2["gm"] > t2["wm"]
    assert flair["csf"] < 0.1 * flair["wm"] < 0.1 * flair["gm"]
    assert flair["oedema"] > 1.2 * flair["gm"]


def test_contrast_agent_brightens_tumours_and_vessels():
    sequence, tumour = SEQUENCES["t1c"], TISSUES["meningioma"]
    assert sequence.signal(tumour.enhanced(sequence.gadolinium)) > 1.5 * sequence.signal(tumour)
    assert sequence.blood(TISSUES["blood"]) > 1.5 * sequence.signal(TISSUES["wm"])
    assert SEQUENCES["t2"].blood(TISSUES["blood"]) < SEQUENCES["t2"].signal(TISSUES["gm"])


def test_spin_echo_equation():
    tissue, sequence = TISSUES["gm"], SEQUENCES["t2"]
    expected = tissue.pd * (1 - np.exp(-sequence.tr / tissue.t1)) * np.exp(-sequence.te / tissue.t2)
    assert sequence.signal(tissue) == pytest.approx(expected)


def test_atlas_maps_add_up_inside_the_brain():
    atlas = load_atlas()
    assert len(atlas.gm) == 107
    total = atlas.gm.astype(int) + atlas.wm + atlas.csf
    inside = total > 0
    assert 0.15 < inside.mean() < 0.5
    assert np.abs(total[inside] - 255).max() <= 1


def test_distance_is_signed_and_in_mm():
    atlas = load_atlas()
    distance = atlas.distance(50)
    middle, row = -atlas.origin[2], -atlas.origin[1] - 18
    assert distance[row, middle] < -40
    slope = np.diff(distance[row, 4:20])
    assert np.allclose(slope, -1, atol=0.2), "far outside it falls by 1 a voxel"


def test_atlas_points_are_found_in_the_scanner():
    scene = Scene(SETTINGS, PATIENTS[0])
    y, x = to_scanner(scene.anatomy, 10.0, -30.0)
    spot = ScanGrid(np.full((8, 8), y), np.full((8, 8), x))
    unbent = scene.anatomy.__class__(**{**vars(scene.anatomy), "warp": np.zeros_like(scene.anatomy.warp)})
    back_y, back_x = head_coordinates(unbent, spot)
    assert np.allclose(back_y, 10.0)
    assert np.allclose(back_x, -30.0)
    assert np.allclose(linear(unbent, 0.0, 0.0), 0.0)


@pytest.mark.parametrize(("fine", "size"), [(128, 64), (192, 128), (224, 224)])
def test_resampling_keeps_level_and_place(fine, size):
    y, x = ScanGrid.square(fine, 200.0).y, ScanGrid.square(fine, 200.0).x
    spot = 1 + np.exp(-((y - 20) ** 2 + (x + 31) ** 2) / (2 * 9.0**2))
    y, x = ScanGrid.square(size, 200.0).y, ScanGrid.square(size, 200.0).x
    expected = 1 + np.exp(-((y - 20) ** 2 + (x + 31) ** 2) / (2 * 9.0**2))
    assert np.allclose(resample(spot[None], size)[0], expected, atol=1e-3)


@pytest.mark.parametrize("patient", PATIENTS, ids=lambda patient: patient.id)
def test_only_the_tumour_depends_on_the_label(patient):
    sick, healthy = render(SETTINGS, patient, True), render(SETTINGS, patient, False)
    assert np.array_equal(sick.counterfactuals, healthy.images)
    assert np.array_equal(healthy.counterfactuals, healthy.images)
    assert not healthy.masks.any()


@pytest.mark.parametrize("patient", PATIENTS[::3], ids=lambda patient: patient.id)
def test_tumours_are_visible_in_every_slice(patient):
    done = render(SETTINGS, patient, True)
    scene = Scene(SETTINGS, patient)
    rng = sampling.generator(SETTINGS, "tumour", patient.split, patient.hospital, patient.number)
    cnr, area = scene.visibility(*add_tumour(scene, rng)[1:])
    assert cnr >= SETTINGS.min_cnr
    assert area >= SETTINGS.min_area
    difference = np.abs(done.images.astype(int) - done.counterfactuals)
    for image, mask in zip(difference, done.masks, strict=True):
        assert mask.sum() > 60, "pixels at 64 px"
        assert image[mask].mean() > 4 * image[~mask].mean()
        assert image[mask].mean() > 25


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_lies_in_the_head(kind):
    scene = Scene(SETTINGS, PATIENTS[1])
    rng = np.random.default_rng(0)
    draws = (draw_tumour(rng, scene.atlas, scene.anatomy, scene.tissues) for _ in range(200))
    tumour = next(tumour for tumour in draws if tumour.kind == kind)
    _, share = scene.with_tumour(tumour)
    assert share.max() == pytest.approx(1.0, abs=0.02)
    assert (share <= scene.inside + 1e-9).all()
    at_dura = (share[:, :, :] * (np.abs(scene.distance) < 4)).sum() > 0.5
    assert at_dura or kind != "meningioma"


def test_mass_effect_moves_the_brain_and_not_the_skull():
    scene = Scene(SETTINGS, PATIENTS[0])
    tumour, _, share = add_tumour(scene, np.random.default_rng(0))
    depth, _, _ = tumour.outline(scene.grid, scene.levels)
    moved = tumour.displacement(depth, scene.inside, scene.distance)
    assert moved[(depth > 0) & (depth < 4) & (scene.distance < -12)].max() > 0.5 * tumour.push
    assert not moved[scene.distance > 0].any()
    assert share.max() > 0.9


def test_window_comes_from_the_scan_without_a_tumour():
    scene = Scene(SETTINGS, PATIENTS[0])
    ceiling = scene.ceiling
    add_tumour(scene, np.random.default_rng(0))
    assert scene.ceiling == ceiling


def test_noise_is_rician():
    scene = Scene(SETTINGS, PATIENTS[-1])
    empty = acquire(np.zeros_like(scene.healthy), scene.scan, scene.ceiling) / 255.0
    background = empty ** (1 / scene.scan.gamma)
    assert background.mean() == pytest.approx(np.sqrt(np.pi / 2) * scene.scan.sigma, rel=0.2)


def test_prevalence_is_exact_in_every_hospital():
    settings = sampling.Settings(train_patients=40)
    labels = sampling.labels(settings, "train").reshape(len(HOSPITALS), 40)
    assert labels.mean(axis=1).tolist() == [hospital.prevalence for hospital in HOSPITALS]
    assert len(set(labels.mean(axis=1).tolist())) == len(HOSPITALS)


def balanced_accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float((guess[truth].mean() + (~guess[~truth]).mean()) / 2)


def nuisance_scores(settings: sampling.Settings) -> list[float]:
    """Balanced accuracy of nuisance variables within each hospital, training patients in five folds."""
    people, labels = sampling.patients(settings, "train"), sampling.labels(settings, "train").astype(bool)
    numbers = np.array(
        [
            [
                *(scene.sequence.name == name for name in SEQUENCES),
                *scene.anatomy.scale,
                *scene.anatomy.levels,
                render(settings, patient, int(label)).images.mean(),
            ]
            for patient, label in zip(people, labels, strict=True)
            for scene in (Scene(settings, patient),)
        ],
        dtype=np.float64,
    )
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    # Brightness may mean one thing in one sequence and another in the next.
    features = np.column_stack([np.ones(len(numbers)), numbers, numbers[:, :4] * numbers[:, -1:]])
    sites = np.array([patient.hospital for patient in people])
    scores = []
    for site in range(len(HOSPITALS)):
        x, y = features[sites == site], labels[sites == site]
        guess = np.zeros(len(y), dtype=bool)
        for fold in range(5):
            held = np.arange(len(y)) % 5 == fold
            weight = np.where(y, 0.5 / y[~held].mean(), 0.5 / (~y[~held]).mean())[~held] ** 0.5
            ridge = np.concatenate([x[~held] * weight[:, None], 2.0 * np.eye(x.shape[1])])
            target = np.concatenate([np.where(y[~held], 1.0, -1.0) * weight, np.zeros(x.shape[1])])
            guess[held] = x[held] @ np.linalg.lstsq(ridge, target, rcond=None)[0] > 0
        scores.append(balanced_accuracy(y, guess))
    return scores


@pytest.mark.parametrize("edition", [pytest.param(sampling.Settings, marks=pytest.mark.slow), sampling.Graded])
def test_nuisance_variables_do_not_predict_the_label(edition):
    # Few pixels, one slice and many patients: what is tested are the random draws.
    scores = nuisance_scores(edition(size=32, train_patients=120, slices=1))
    assert np.mean(scores) <= 0.55, scores


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 100])
def test_nuisance_variables_do_not_predict_the_label_in_any_hospital(seed):
    patients = 1200
    scores = nuisance_scores(sampling.Graded(size=32, train_patients=patients, slices=1, seed=seed))
    print(scores)  # noqa: T201  # docs/brainsim.md quotes them
    error = 0.5 / patients**0.5
    assert max(scores) <= 0.55 + 2 * error, scores
