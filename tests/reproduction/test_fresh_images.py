"""Cells on images that nobody has seen: from the command to the columns of the leaderboard."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from helpers.command import invoke, own_folder
from PIL import Image

from robustbench_med.leaderboard.sources.verified import read

Run = Callable[..., Result]
IMAGES = ("--dataset", "imagefolder:size=32", "--data-root", "known")


def scans(folder: str, number: int, seed: int, sites: tuple[str, ...]) -> None:
    """Grey noise, with a bright square in one of two classes, for each of these sites."""
    chance = np.random.default_rng(seed)
    for site in sites:
        for label in ("no", "yes"):
            place = Path(folder, site, label)
            place.mkdir(parents=True)
            for at in range(number):
                pixels = chance.normal(80, 20, (32, 32))
                if label == "yes":
                    pixels[8:24, 8:24] += 100
                Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(place / f"{seed}-{at}.png")


@pytest.fixture(scope="module")
def rbmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """``rbmed ...`` in a folder of its own, with records of the simulator and of a folder of images."""
    with own_folder(tmp_path_factory, 200):
        scans("known", 30, 1, ("a", "b"))
        scans("held", 8, 2, ("a", "b"))
        scans("elsewhere", 8, 3, ("c",))
        cell = ("--defense", "undefended", "--baseline", "", "--attack", "apgd:steps=2", "--access", "oblivious")
        for more in (("--out", "simulated"), (*IMAGES, "--strategy", "fedavg:rounds=2", "--train", "--out", "folder")):
            done = invoke("run", *cell, "--limit", 16, *more)
            assert done.exit_code == 0, done.output
        yield invoke


@pytest.mark.long
def test_a_new_seed_of_the_simulator(rbmed: Run) -> None:
    done = rbmed("verify", "simulated", "--fresh", 77, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert (found["verdict"], found["fresh"]["source"], found["fresh"]["n"]) == ("identical", "brainsim:seed=77", 16)
    done = rbmed("verify", "simulated", "--fresh", "new")
    assert done.exit_code == 0, done.output
    assert "16 images, brainsim:seed=" in done.stdout


def test_a_folder_that_was_held_back(rbmed: Run) -> None:
    done = rbmed("verify", "folder", "--data-root", "known", "--fresh", "held")
    assert done.exit_code == 0, done.output
    assert "16 images, held back" in done.stdout


@pytest.mark.parametrize(
    ("folder", "source", "words"),
    [
        ("simulated", "nowhere", "give new, a seed of the simulator"),
        ("simulated", "\u00b2", "give new, a seed of the simulator"),
        ("simulated", "-1", "give new, a seed of the simulator"),
        ("simulated", "0", "these are the images of the record"),
        ("folder", "new", "no simulator with a seed"),
        ("folder", "known", "these are the images of the record"),
        ("folder", "both", "of its images are in the data set of the record"),
        ("folder", "elsewhere", "its images are of all, and the clients of the record are a, b"),
    ],
)
def test_what_gives_no_new_images_is_one_line(rbmed: Run, folder: str, source: str, words: str) -> None:
    if source == "both":
        scans("both", 30, 1, ("a",))
    root = ("--data-root", "known") if folder == "folder" else ()
    done = rbmed("verify", folder, *root, f"--fresh={source}")
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert words in line


def test_the_result_is_a_column_of_the_leaderboard(rbmed: Run) -> None:
    for args in (
        ("add", "simulated", "--root", "board", "--name", "x"),
        ("verify", "board/records/x.jsonl", "--root", "board", "--fresh", 77, "--accept", "M"),
        ("verify", "board/records/x.jsonl", "--root", "board", "--accept", "N"),  # keeps what was found before
        ("build", "--root", "board"),
    ):
        done = rbmed("leaderboard", *args)
        assert done.exit_code == 0, done.output
    (word,) = read(Path("board/verified.jsonl")).values()
    assert word.fresh is not None
    assert (word.by, word.fresh.n, word.fresh.source) == ("N", 16, "brainsim:seed=77")
    (row,) = csv.DictReader(Path("board/leaderboard.csv").read_text().splitlines())
    assert float(row["fresh"]) == word.fresh.robust
    assert float(row["fresh_low"]) <= float(row["fresh"]) <= float(row["fresh_high"])
    assert (row["fresh_images"], row["verified"]) == ("16 of brainsim:seed=77", "identical, N")
    (board,) = json.loads(Path("board/leaderboard.json").read_text())["boards"]
    (entry,) = board["unranked"]
    assert entry["fresh"]["value"] == word.fresh.robust
    assert (entry["fresh_images"], entry["verified"]) == ("16 of brainsim:seed=77", "identical, N")
    shown = f"{100 * word.fresh.robust:.1f} ["
    for form in ("table", "markdown"):
        done = rbmed("leaderboard", "show", "--root", "board", "--columns", "defense,fresh,verified", "--format", form)
        assert done.exit_code == 0, done.output
        assert "fresh" in done.stdout
        assert shown in done.stdout
    (page,) = Path("board/boards").glob("*.html")
    assert shown in page.read_text()
