"""Pictures of rows, on toy parts whose attack and detector are known."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import torch
from helpers.command import invoke
from helpers.grids import run, trained
from PIL import Image

from robustbench_med.errors import BadParameter
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.page.gallery import find
from robustbench_med.leaderboard.render.page.report import ResultsReport, html
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.plugins.registry import Registry
from robustbench_med.reproduction.attacked_images import Seen, candidates, look, strongest
from robustbench_med.reproduction.gallery import choose, draw
from robustbench_med.reproduction.verify import Verifier


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, Entry]:
    """A row of the toy defense with a purifier, over the quick ladder's rungs with the toy attack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(tmp_path_factory.mktemp("home")))
        registry, out = trained(), tmp_path_factory.mktemp("out")
        (record,) = run(registry, out, access="full", limit=12)
        outcome = outcome_of(record, out / "samples")
        assert outcome is not None
        (board,) = boards([record], {record.cell_id: outcome})
        (entry,) = board.entries
        yield registry, entry


def synthetic(entry: Entry, yes: bool = True) -> Entry:
    record = entry.records[0]
    dataset = record.dataset.model_copy(update={"synthetic": yes})
    return replace(entry, records=(record.model_copy(update={"dataset": dataset}),))


def test_a_gallery_is_drawn_and_found(made: tuple[Registry, Entry], tmp_path: Path) -> None:
    registry, entry = made
    place = draw(Verifier(registry), synthetic(entry), tmp_path / "gallery", images=3)
    gallery = find(tmp_path / "gallery", entry.id, "../gallery")
    assert gallery is not None
    assert gallery.columns[:3] == ["clean", "attacked", "perturbation \N{MULTIPLICATION SIGN} 10"]
    assert gallery.columns[-1] == "purified"
    assert 1 <= len(gallery.examples) <= 3
    for example in gallery.examples:
        assert example.src == f"../gallery/{entry.id}/{example.file}"
        with Image.open(place / example.file) as strip:
            assert strip.size == (example.width, example.height)
            assert strip.width > len(gallery.columns) * strip.height
        assert ("withstood" in example.alt) == example.withstood
        assert example.before.answer == example.truth, "wrong before the attack"
        assert example.withstood == (example.after.answer in (example.truth, "no answer"))
        assert example.threshold is not None
        for side in (example.before, example.after):
            assert side.score is not None
            assert side.flagged == side.purified == (side.score > example.threshold)


def test_what_is_shown_is_what_happened(made: tuple[Registry, Entry]) -> None:
    registry, entry = made
    verifier, record = Verifier(registry), entry.records[0]
    dataset, deployment = verifier.opened(record)
    step, test = strongest(verifier.registry, record), dataset.split("test")
    assert step.access == "full"
    rows = torch.arange(len(test))[[site == "site-0" for site in test.sites]]
    seen = look(deployment, "site-0", test.select(rows), rows, step, record)
    assert torch.equal(seen.clean, test.images[rows])
    assert (seen.attacked - seen.clean).abs().max() <= record.threat.eps + 1e-6
    assert not torch.equal(seen.attacked, seen.clean)
    assert seen.threshold is not None
    assert torch.equal(seen.flagged, seen.scores > seen.threshold)
    assert seen.purified is not None
    assert torch.equal(seen.purified.flatten(1).isnan().any(1), ~seen.flagged[1]), "purified exactly where flagged"
    chosen = choose([seen], 4)
    assert all(seen.answers[0, at] == seen.truth[at] for _, at in chosen), "wrong before the attack"
    fates = [bool(seen.withstood[at]) for _, at in chosen]
    assert fates == sorted(fates), "broken ones come first"


@pytest.mark.parametrize("treated", [(), (5,), (1, 5)])
def test_one_of_the_images_was_purified_if_any_was(treated: tuple[int, ...]) -> None:
    images, truth = torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64)
    answers = torch.stack([truth, torch.tensor([1, 1, 1, 0, 0, 0])])
    purified = torch.full_like(images, float("nan"))
    purified[list(treated)] = 0.5
    flagged = torch.stack([torch.zeros(6, dtype=torch.bool), ~purified.flatten(1).isnan().any(1)])
    seen = Seen(
        "a",
        tuple(range(6)),
        images,
        images,
        truth,
        answers,
        answers,
        torch.zeros(2, 6),
        flagged,
        errors=None,
        purified=purified,
        threshold=0.5,
    )
    chosen = [at for _, at in choose([seen], 4)]
    assert sum(answers[1, at].item() for at in chosen) == 2, "half of them broken"
    assert bool(set(chosen) & set(treated)) == bool(treated)


def test_images_are_taken_from_both_fates(made: tuple[Registry, Entry]) -> None:
    registry, entry = made
    record, outcome = entry.records[0], entry.outcomes[0]
    assert outcome is not None
    test = Verifier(registry).opened(record)[0].split("test")
    rows = candidates(test, record, outcome, 4).tolist()
    fate = dict(zip(outcome.index, outcome.robust > 0, strict=True))
    right = dict(zip(outcome.index, outcome.correct == 1, strict=True))
    assert rows == sorted(set(rows))
    assert len(rows) == min(4, sum(right.values()))
    assert all(right[row] for row in rows)
    kinds = {bool(fate[row]) for row in outcome.index if right[row]}
    assert {bool(fate[row]) for row in rows} == kinds
    assert len(candidates(test, record, None, 4)) == 4


def test_images_of_patients_are_not_shown(made: tuple[Registry, Entry], tmp_path: Path) -> None:
    registry, entry = made
    with pytest.raises(BadParameter, match="are of patients, and are not shown"):
        draw(Verifier(registry), synthetic(entry, yes=False), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_report_holds_its_images(made: tuple[Registry, Entry], tmp_path: Path) -> None:
    registry, entry = made
    own = synthetic(entry, yes=False)
    draw(Verifier(registry), own, tmp_path, images=2, patients=True)
    gallery = find(tmp_path, own.id)
    assert gallery is not None
    assert "images of patients: pass on only what the licence permits" in gallery.told
    (board,) = boards([own.records[0]], {})
    text = html(ResultsReport("mine", [board], []), tmp_path)
    shown = [unescape(found) for found in re.findall(r'<img src="([^"]+)"', text)]
    assert shown == [example.src for example in gallery.examples]
    kept = (tmp_path / own.id / gallery.examples[0].file).read_bytes()
    assert shown[0] == "data:image/webp;base64," + b64encode(kept).decode()
    assert "img-src data:;" in text
    assert "<img" not in html(ResultsReport("mine", [board], []))


def test_markdown_holds_no_images(tmp_path: Path) -> None:
    done = invoke("report", tmp_path, "--format", "md", "--images", "2")
    assert (done.exit_code, "--format md, which has no images" in " ".join(done.stderr.split())) == (2, True)
