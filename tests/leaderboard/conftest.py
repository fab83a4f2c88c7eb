"""A real submission, which the tests of forgeries edit, and a page in a browser; each is made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import board as boards
from helpers.board import build
from helpers.browser import opened
from helpers.forgery import Referee, submitted
from helpers.studies import studies_of
from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def submission_of_a_toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The home with its weights, and the file."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("work"))
        return home, submitted()


@pytest.fixture(scope="module")
def referee(submission_of_a_toy: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    """What judges edits of the submission."""
    home, file = submission_of_a_toy
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RBMED_HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield Referee(file)


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with opened() as driver:
        yield driver


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two small boards and what is beside them, in a folder whose name needs escaping."""
    folder = tmp_path_factory.mktemp("a page")
    build(boards.full(), folder, studies_of())
    return folder
