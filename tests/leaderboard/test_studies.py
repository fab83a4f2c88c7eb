"""Pages beside the boards: certificates, bad scans and attacks, each from records of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from helpers import board as boards
from helpers.board import build
from helpers.command import invoke
from helpers.leaderboard import example
from helpers.paths import ROOT
from helpers.studies import BAD, SMOOTHED, acquisition, certified, corruption, in_folds, studies_of

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import RungFigure
from robustbench_med.leaderboard.ranking.acquisition import acquisition_boards
from robustbench_med.leaderboard.ranking.certified import certified_boards
from robustbench_med.leaderboard.ranking.corruptions import corruption_boards
from robustbench_med.leaderboard.render.page.certificates import round_ticks
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.render.studies.all import studies, to_csv, to_markdown
from robustbench_med.leaderboard.render.studies.rerun import again, measured_with
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.names import Named
from robustbench_med.leaderboard.sources.records import read_records
from robustbench_med.leaderboard.sources.studies import STUDIES
from robustbench_med.plugins.references import PartRef
from robustbench_med.records.record import dumped

COMMITTED = ROOT / "leaderboard" / "corruptions"


def test_certified_and_attacked_bounds_of_the_same_images_are_one_row() -> None:
    records = [certified("a", 0.5, 0.75), certified("b", 0.25, 0.9), certified("c", 0.5, 1.0, attack="noise")]
    records.append(certified("d", 0.5, 0.2, name="undefended", smoothed=False))
    (board,) = certified_boards(records)
    assert (board.title, board.images, board.patients) == ("brainsim (synthetic), L2", 64, 48)
    rows = [(row.system, row.attack, row.eps, row.control, row.attacked and row.attacked.value) for row in board.rows]
    assert rows == [
        (SMOOTHED, "momentum:steps=15", 0.25, False, 0.9),
        (SMOOTHED, "momentum:steps=15", 0.5, False, 0.75),
        (SMOOTHED, "noise", 0.5, True, 1.0),
        ("undefended", "momentum:steps=15", 0.5, False, 0.2),
    ]
    lower = board.rows[1]
    assert lower.certified is not None
    assert lower.gap == pytest.approx(0.25)
    assert lower.certified.interval == (0.4, 0.6)
    assert (board.rows[3].certified, board.rows[3].gap) == (None, None)


def test_folds_are_one_row_and_images_of_patients_come_first() -> None:
    folds = in_folds(0.75, 0.5, 0.25, of=3)
    first, second = certified_boards([certified("a", 0.5, 0.75), *folds])
    assert (first.title, first.images, first.patients) == ("d:folds=3, L2", 192, 144)
    assert second.title == "brainsim (synthetic), L2"
    (row,) = first.rows
    assert row.attacked is not None
    assert row.certified is not None
    assert (row.attacked.value, row.abstained, row.attack) == (0.5, 3, "momentum:steps=15")
    assert row.certified.value == pytest.approx(0.5)
    # Each fold's interval is a tenth to either side: of three independent ones the mean is known better by their root.
    assert row.certified.interval == pytest.approx((0.5 - 0.1 / 3**0.5, 0.5 + 0.1 / 3**0.5))
    assert row.how is not None
    assert folds[0].certified is not None
    assert [point.accuracy for point in row.how.curve] == pytest.approx(
        [point.accuracy for point in folds[0].certified.curve]
    )
    (again,) = {record.dataset.asked and record.dataset.asked.dataset for record in row.records}
    assert again == "d:folds=3"


def test_a_row_says_which_folds_it_lacks() -> None:
    (board,) = certified_boards(in_folds(0.75, 0.5, of=5))
    assert board.rows[0].attack == "momentum:steps=15, of 5 folds only 0, 1"


def test_what_is_not_certified_at_all_is_no_board() -> None:
    assert certified_boards([certified("d", 0.5, 0.2, smoothed=False)]) == []


def test_chosen_artefacts_stand_beside_those_of_chance() -> None:
    records = [
        acquisition("a", "all", 20, 4, 0.375),
        acquisition("b", "all", 0, 1, 0.96875),
        acquisition("c", "all", 0, 84, 0.6875),
        acquisition("d", "motion", 20, 4, 0.75),
    ]
    (board,) = acquisition_boards(records, {})
    first, second = board.rows
    assert (first.physics, first.tries) == ("all", 84)
    assert [figure and figure.value for figure in (first.worst, first.chance, first.search)] == [0.375, 0.96875, 0.6875]
    assert first.difference == pytest.approx(0.59375)
    assert (second.physics, second.chance, second.difference) == ("motion", None, None)


def test_of_several_searches_for_the_worst_artefacts_the_strongest_counts() -> None:
    records = [acquisition("a", "all", 20, 4, 0.5), acquisition("b", "all", 100, 4, 0.25)]
    records += [acquisition("c", "all", 0, 10, 0.75), acquisition("d", "all", 0, 84, 0.625)]
    (row,) = acquisition_boards(records, {})[0].rows
    assert [figure and figure.value for figure in (row.worst, row.search)] == [0.25, 0.625]
    assert row.tries == 84


def test_corruptions_are_averaged_as_the_report_does() -> None:
    records = [
        corruption(f"{name}{kind}{severity}", kind, severity, left, name)
        for name, better in (("undefended", 0.0), ("other", 0.1))
        for kind, least in (("jpeg", 0.5), ("gamma", 0.7))
        for severity, left in enumerate((0.9, 0.8, least + better), 1)
    ]
    (board,) = corruption_boards(records, {})
    rows = {(row.system, row.name): row for row in board.rows}
    jpeg = rows["other", "jpeg"]
    # Errors 0.1, 0.2 and 0.4 beside the baseline's 0.1, 0.2 and 0.5; on clean images 0.
    assert (jpeg.be, jpeg.ce, jpeg.rce) == pytest.approx((0.7 / 3, 0.7 / 0.8, 0.7 / 0.8))
    assert jpeg.balanced == pytest.approx({1: 0.9, 2: 0.8, 3: 0.6})
    mean = rows["other", ""]
    assert mean.be == pytest.approx((0.7 + 0.5) / 6)
    assert rows["undefended", "gamma"].ce == 1.0
    assert [row.name for row in board.rows][:3] == ["", "jpeg", "gamma"], "the one that costs most first"


def test_the_committed_corruptions_are_those_of_the_report() -> None:
    path = COMMITTED / "records" / "corruptions-brainsim.jsonl.gz"
    told = invoke("table", path, "--report", "corruptions")
    assert told.exit_code == 0, told.output
    outcomes = {each.cell_id: each for each in read_outcomes(COMMITTED / "outcomes" / path.name)}
    (board,) = corruption_boards(read_records(path), outcomes)
    lines = {}
    for line in told.output.splitlines():
        parts = [part.strip(" `") for part in line.split("|")]
        if len(parts) > 6:
            lines[parts[2], parts[4]] = parts[5:8]
    assert len(board.rows) >= 20
    for row in board.rows:
        shown = ["" if each is None else f"{100 * each:.1f}" for each in (row.be, row.ce, row.rce)]
        assert lines[row.records[0].defense.name if row.records else _name(row.system), row.name or "mean"] == shown
        assert row.name == "" or (row.kept is not None and row.kept.interval is not None)


def _name(system: str) -> str:
    return system.partition(" + ")[0]


def test_one_command_measures_again_what_differs_in_an_option_that_may_be_repeated() -> None:
    records = [certified("a", 0.5, 0.75), certified("b", 0.25, 0.9)]
    (line,) = again(records)
    assert line.startswith("rbmed run --train ")
    assert "--eps 0.5 --eps 0.25" in line
    assert "--certify --n0 50 --n 500 --alpha 0.001" in line
    other = certified("d", 0.5, 0.2, name="undefended", smoothed=False)
    assert len(again([*records, other])) == 2
    told = {**records[0].dataset.model_dump(), "asked": None}
    assert again([boards.record("old", dataset={k: v for k, v in told.items() if v is not None})])[0].startswith("# ")


def test_the_command_of_a_measurement_is_told_without_its_folder() -> None:
    made = [boards.record(str(at), provenance={"command": f"rbmed run a.toml --out x{at}"}) for at in range(3)]
    assert measured_with(made) == ["rbmed run a.toml"]


def test_studies_have_pages_tables_and_data(tmp_path: Path) -> None:
    found = studies_of()
    assert [study.id for study in found] == list(STUDIES)
    build(boards.full(), tmp_path, found)
    overview = (tmp_path / "index.html").read_text(encoding="utf-8")
    for study in found:
        page = (tmp_path / "studies" / f"{study.id}.html").read_text(encoding="utf-8")
        assert f'href="studies/{study.id}.html"' in overview
        assert study.learned in overview.replace("&#39;", "'")
        assert "control" in page
        assert "of 48 patients" in page
        assert "rbmed run" in page
        rows = list(csv.DictReader(to_csv(study).splitlines()))
        assert len(rows) == len(study.facts)
        assert all(row["records"] for row in rows)
    first = overview[overview.index("id=studies") :]
    assert "Certified accuracy against the L2 radius" in first[: first.index("Bad scans")], "the chart is at the door"


def test_systems_are_called_as_on_the_boards(tmp_path: Path) -> None:
    found = studies_of(names={("defense", "undefended"): Named(title="No defense", bare=True)})
    build(boards.full(), tmp_path, found)
    for study in found:
        page = (tmp_path / "studies" / f"{study.id}.html").read_text(encoding="utf-8")
        assert "No defense" in page
        assert "undefended" in page, "the name on the command line stays, in small print"
        assert all("No defense" not in str(facts) for facts in study.facts), "data keep the name on the command line"
    told = "\n".join(to_markdown(found))
    assert "No defense, undefended" in told


def test_attacks_and_data_are_called_as_people_do(tmp_path: Path) -> None:
    names = {("attack", "momentum"): Named(title="Momentum attack"), ("dataset", "brainsim"): Named(title="Brain (b)")}
    found = studies_of(names=names)
    build(boards.full(), tmp_path, found)
    certified_page = (tmp_path / "studies" / "certified.html").read_text(encoding="utf-8")
    assert "Momentum attack, steps 15 (momentum:steps=15)" in certified_page
    assert "<h2>Brain (b, synthetic), L2</h2>" in certified_page
    assert "brainsim (synthetic)" not in certified_page
    assert all("Momentum attack" not in str(facts) for study in found for facts in study.facts)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({}, "APGD"),
        ({"steps": 50, "loss": "margin"}, "APGD, steps 50, loss margin"),
        ({"": "LinfPGD", "max_iter": 5}, "APGD LinfPGD, max iter 5"),
    ],
)
def test_the_name_of_an_attack_has_its_parameters(params: dict[str, object], name: str) -> None:
    attack = PartRef("apgd", params)
    assert People({("attack", "apgd"): Named(title="APGD")}).attack(attack) == name
    assert People().attack(attack) == ""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gate apgd:steps=50 selective", ("gate: APGD, steps 50, selective", "apgd:steps=50")),
        ("gate apgd", ("gate: APGD", "")),
        ("gate other:steps=2", ("gate other:steps=2", "")),
        ("gate apgd:[", ("gate apgd:[", "")),
    ],
)
def test_attackers_are_called_as_people_do(name: str, told: tuple[str, str]) -> None:
    people = People({("attack", "apgd"): Named(title="APGD")})
    assert people.attacker(RungFigure(name, "gate", 0.5)) == told


def test_hostile_text_of_a_study_is_text(tmp_path: Path) -> None:
    build([], tmp_path, studies_of(BAD))
    for page in ("index.html", *(f"studies/{name}.html" for name in STUDIES)):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert BAD not in text
        assert page == "index.html" or "&lt;b&gt;bad" in text


def test_without_records_there_is_no_page_and_nothing_changes(tmp_path: Path) -> None:
    example(tmp_path)
    sources = read_sources(tmp_path)
    assert studies(sources.studies) == []
    assert invoke("leaderboard", "build", "--root", tmp_path).exit_code == 0
    assert not (tmp_path / "studies").exists()
    assert "studies" not in (tmp_path / "leaderboard.json").read_text()


def test_the_folder_of_a_study_is_built_and_a_page_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    example(tmp_path)
    path = tmp_path / "certified" / "records" / "a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(f"{dumped(certified('a', 0.5, 0.75))}\n")
    assert invoke("leaderboard", "build", "--root", tmp_path).exit_code == 0
    assert {each.name for each in (tmp_path / "studies").iterdir()} == {"certified.html", "certified.csv"}
    assert "## Certified and attacked" in (tmp_path / "README.md").read_text()
    facts = json.loads((tmp_path / "leaderboard.json").read_text())["studies"]["certified"]
    assert [(each["eps"], each["certified"], each["attacked"]) for each in facts] == [(0.5, 0.5, 0.75)]
    path.unlink()
    assert invoke("leaderboard", "build", "--root", tmp_path, "--check").exit_code == 1
    assert invoke("leaderboard", "build", "--root", tmp_path).exit_code == 0
    assert not list((tmp_path / "studies").iterdir())


def test_a_corrupt_record_of_a_study_is_named(tmp_path: Path) -> None:
    example(tmp_path)
    path = tmp_path / "attacks" / "records" / "a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{\n")
    with pytest.raises(DataError, match=r"attacks/records/a\.jsonl: line 1 is not a record"):
        read_sources(tmp_path)


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (0.75, "0 0.25 0.5 0.75"),
        (0.55, "0 0.1 0.2 0.3 0.4 0.5"),
        (0.5, "0 0.1 0.2 0.3 0.4 0.5"),
        (1.0, "0 0.2 0.4 0.6 0.8 1"),
        (3.7, "0 1 2 3"),
        (0.03, "0 0.01 0.02 0.03"),
        (9.9, "0 2 4 6 8"),
    ],
)
def test_radii_of_an_axis_are_round_numbers(most: float, ticks: str) -> None:
    assert " ".join(f"{each:g}" for each in round_ticks(most)) == ticks
