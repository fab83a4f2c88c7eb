"""Published records: one of every file that can be run again here is; of the others it is said why they cannot.

What stands in the way is found by `rbmed verify` and compared with the table below, so that neither can go stale.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from robustbench_med.defenses.weights import with_digest
from robustbench_med.errors import UsageError
from robustbench_med.files.jsonl import file_of, files_of, name_of
from robustbench_med.grid.cell import Cell
from robustbench_med.grid.config import RunConfig, build
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.leaderboard.sources.studies import STUDIES
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record, read
from robustbench_med.records.rerun import request
from robustbench_med.reproduction.agreement import elsewhere
from robustbench_med.reproduction.description import variant
from robustbench_med.reproduction.verify import Verifier, planned, threads
from robustbench_med.runner.runner import Runner
from robustbench_med.training.untrained import ready_seed

FOLDER, MEASUREMENTS = ROOT / "leaderboard", "measurements"
#: Folders of records that no board is made of.
BESIDE = (MEASUREMENTS, *STUDIES)
IMAGES, WEIGHTS = "needs its images", "weights: none with digest"
#: Of studies: a rerun puts the weights together from shipped parts before it can say whether they are the same.
TOGETHER = "put together first"
GATE = "threshold: revision 1"
#: File -> what keeps records in it from being run here.
EXPECTED: dict[str, set[str]] = {
    # Those of the boards.
    "leaderboard-brain-tumor-mri": {IMAGES},
    "leaderboard-brainsim-standard": set(),
    "leaderboard-brainsim2": set(),
    "leaderboard-brainsim2-purifiers": set(),
    "leaderboard-busi-folds": {IMAGES},
    "leaderboard-hippocampus-folds": {IMAGES},
    "leaderboard-lgg-folds": {IMAGES},
    "plus-lgg": {IMAGES},
    # Those that the documentation cites.
    "measurements/ablation-medfedpure": {GATE},
    "measurements/ablation-medfedpure-lgg": {IMAGES, GATE},
    "measurements/brainsim": {GATE},
    "measurements/brainsim2-trained": {WEIGHTS},
    "measurements/detectors": {GATE},
    "measurements/federation-adversarial": {WEIGHTS},
    "measurements/federation-brainsim": {WEIGHTS},
    "measurements/federation-lgg": {IMAGES},
    "measurements/federation-lgg-adversarial": {IMAGES},
    "measurements/federation-malicious": {WEIGHTS},
    "measurements/lgg": {IMAGES, GATE},
    "measurements/reproduce-medfedpure": {IMAGES, GATE},
    # Those of the studies.
    "attacks/attacks": set(),
    "certified/brainsim": {TOGETHER},
    "certified/lgg": {IMAGES},
    "corruptions/acquisition-brainsim": set(),
    "corruptions/corruptions-brainsim": set(),
}
#: Files of which a record can be run again.
RUN = (
    *("leaderboard-brainsim-standard", "leaderboard-brainsim2", "leaderboard-brainsim2-purifiers"),
    *("measurements/ablation-medfedpure", "measurements/brainsim"),
    *("attacks/attacks", "certified/brainsim"),
    *("corruptions/acquisition-brainsim", "corruptions/corruptions-brainsim"),
)
#: Those of diffusion purifiers only, on which the ladder takes minutes, and one of more images than the others.
MARKS = {"leaderboard-brainsim2-purifiers": [pytest.mark.slow], "leaderboard-brainsim2": [pytest.mark.long]}
#: Files of which one can be run again as a whole only: results of its images are not published.
WHOLE = ("measurements/federation-adversarial",)
#: Images of the short rerun.
FEW = 4


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(Registry(), "cpu")


def place(file: str, what: str) -> Path:
    """The file with its records, or with the outcomes of their images."""
    study, _, name = file.rpartition("/")
    return file_of(FOLDER / study / what, name, compressed=False)


def kinds(file: str) -> list[Record]:
    """A record of each kind in a file, and of each seed of the training.

    Of a study, which has many attacks on few systems, that of each system which took the least time, certified or not.
    """
    found: dict[object, Record] = {}
    study, every = file.startswith(tuple(STUDIES)), list(read(place(file, RECORDS)))
    if study:
        every.sort(key=lambda record: (record.certified is None, record.seconds))
    for record in every:
        defense, attack = record.defense, record.attack
        key = (
            defense.name,
            defense.parts.detector is None,
            defense.weights.seed,
            defense.strategy and defense.strategy.name,
        )
        kind = (*key, "" if study else attack.name, attack.revision, record.role, record.dataset.name)
        found.setdefault(kind, record)
    return list(found.values())


def prepared(verifier: Verifier, record: Record, out: Path) -> tuple[RunConfig, Cell] | None:
    """The record's cell on a few images, where today's code plans it and its data and weights are here."""
    options = {**request(record), "device": "cpu", "out": out}
    if variant(planned(record, build(options), verifier.registry), record) is None:
        return None
    config = build({**options, "limit": FEW, "diagnostics": "off"})
    cell, loader = planned(record, config, verifier.registry), verifier.loader(verifier.device_of(record))
    try:
        card = loader.dataset(cell.trained).card()
    except UsageError:
        return None
    here = with_digest(loader.resolved(cell.trained), card, str(record.defense.weights.digest))
    return None if here is None else (replace(config, weights=here), cell)


def put_together(verifier: Verifier, record: Record, out: Path) -> bool:
    """Whether the record's weights are only here in parts."""
    cell = planned(record, build({**request(record), "device": "cpu", "out": out}), verifier.registry)
    loader = verifier.loader(verifier.device_of(record))
    try:
        resolved, card = loader.resolved(cell.trained), loader.dataset(cell.trained).card()
    except UsageError:
        return False
    here = with_digest(resolved, card, str(record.defense.weights.digest))
    return here is None and ready_seed(resolved, card, record.defense.weights.seed) is not None


def runnable(verifier: Verifier, file: str, out: Path) -> tuple[Record, RunConfig]:
    return next(
        (record, found[0])
        for record in kinds(file)
        if record.status == "ok" and (found := prepared(verifier, record, out)) is not None
    )


def test_every_file_is_named() -> None:
    there = {name_of(path) for path in files_of(FOLDER / RECORDS)}
    there |= {f"{study}/{name_of(path)}" for study in BESIDE for path in files_of(FOLDER / study / RECORDS)}
    assert there == EXPECTED.keys()


@pytest.mark.parametrize("file", EXPECTED)
def test_what_cannot_be_run_again_says_why(verifier: Verifier, tmp_path: Path, file: str) -> None:
    seen, runs = set(), False
    for record in kinds(file):
        if prepared(verifier, record, tmp_path) is not None:
            runs = True
            continue
        if file.startswith(tuple(STUDIES)) and put_together(verifier, record, tmp_path):
            seen.add(TOGETHER)
            continue
        finding = verifier.verify(record)
        assert finding.verdict in ("differs", "digest", "impossible")
        (note,) = finding.notes
        reasons = {each for each in (IMAGES, WEIGHTS, GATE) if each in note}
        assert reasons, note
        seen |= reasons
    assert (seen, runs) == (EXPECTED[file], file in (*RUN, *WHOLE))


@pytest.mark.parametrize("file", [pytest.param(file, marks=MARKS.get(file, [])) for file in RUN])
def test_what_can_be_run_again_gives_the_published_answers(verifier: Verifier, tmp_path: Path, file: str) -> None:
    record, config = runnable(verifier, file, tmp_path)
    outcomes = {each.cell_id: each for each in read_outcomes(place(file, OUTCOMES))}
    published, device = outcomes[record.cell_id], verifier.device_of(record)
    runner = Runner(config, verifier.registry)
    runner.loader = verifier.loader(device)
    with threads(record, device):
        (again,) = [each for each in runner.run() if each.role == record.role]
    assert again.status == "ok", again.reason
    made = from_samples(tmp_path / "samples" / f"{again.cell_id}.parquet")
    rows = [published.index.index(row) for row in made.index]
    assert len(rows) == FEW
    assert np.array_equal(made.labels, published.labels[rows])
    assert np.array_equal(made.clean, published.clean[:, rows])
    if not elsewhere(record, device):  # else an attack may end at another image
        assert np.array_equal(made.attacked, published.attacked[:, rows])


@pytest.mark.slow
@pytest.mark.parametrize("file", [*RUN, *WHOLE])
def test_what_can_be_run_again_is_verified(verifier: Verifier, tmp_path: Path, file: str) -> None:
    if file.startswith("certified/"):  # of the smoothed system, whose weights a rerun puts together
        own = [each for each in read(place(file, RECORDS)) if each.certified is not None]
        record = min(own, key=lambda each: each.seconds)
    else:
        record, _ = runnable(verifier, file, tmp_path)
    finding = verifier.verify(record)
    within = elsewhere(record, verifier.device_of(record))
    assert finding.verdict in (("identical", "within") if within else ("identical",)), finding.notes
