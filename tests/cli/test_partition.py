"""``rbmed data partition`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from helpers import paths
from helpers.command import invoke

TOY = str(paths.TOY)


def partition(*options: object) -> Result:
    """The toy data set: 96 training images of 96 patients at two sites, both classes at each."""
    return invoke("-p", TOY, "data", "partition", "stripes", *options)


def test_the_table_shows_what_each_client_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.cli.console.out.width", 120)
    result = partition("--partition", "shards:clients=2,per_client=1")
    assert result.exit_code == 0, result.output
    assert "stripes  synthetic, partition shards:clients=2,per_client=1" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    found = {row[0]: row for row in rows if row and row[0].startswith("client-")}
    assert {tuple(row[-2:]) for row in found.values()} == {("█" * 20, "100/0"), ("▓" * 20, "0/100")}
    assert sum(int(row[3]) for row in found.values()) == 96
    largest = max(found.values(), key=lambda row: int(row[3]))
    assert largest[1:5] == ["train", largest[2], largest[2], "━" * 10]  # a patient an image, and the longest bar
    assert len([row for row in rows if row and row[0] in ("calibration", "test")]) == 4


def test_a_narrow_terminal_gets_a_narrow_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustbench_med.cli.console.out.width", 80)
    lines = partition().stdout.splitlines()
    assert sum("calibration" in line for line in lines) == 2  # not folded
    assert max(map(len, lines[:-1])) <= 80


def test_json_counts_everything_and_the_digest_follows_the_partition() -> None:
    plain, partitioned = (
        json.loads(partition("--json", *more).stdout) for more in ((), ("--partition", "iid:clients=3"))
    )
    assert (plain["digest"], plain["partition"], plain["synthetic"]) == ("stripes-24", "site", True)
    assert partitioned["digest"] != plain["digest"]
    for shown, names in ((plain, ["site-0", "site-1"]), (partitioned, ["client-1", "client-2", "client-3"])):
        assert [row["site"] for row in shown["clients"] if row["split"] == "test"] == names
        assert sum(row["images"] for row in shown["clients"]) == 96 + 40 + 24
    assert partitioned["skew"]["train"] < 0.02
    keys = {"split", "site", "patients", "images", "classes"}
    assert all(row.keys() == keys and sum(row["classes"].values()) == row["images"] for row in partitioned["clients"])


@pytest.mark.parametrize("suffix", ["png", "SVG"])
def test_the_same_partition_is_the_same_picture(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for file in files:
        result = partition("--partition", "iid:clients=2", "--out", file)
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, f"picture: {file}")
    one, two = (file.read_bytes() for file in files)
    assert one == two
    assert one.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--partition", "dirichle"], ["unknown --partition 'dirichle', did you mean 'dirichlet'?", "site, iid"]),
        (["--partition", "iid:clients=two"], ["--partition iid: clients='two'", "int >= 1"]),
        (["--partition", "iid:clients=25"], ["25 clients are too many for the 24 patients in test of 'stripes'"]),
        (["--partition", "iid clients"], ["'iid clients'", "name:key=value"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(options: list[str], parts: list[str]) -> None:
    result = partition(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr
