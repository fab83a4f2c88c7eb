"""A real submission, which the tests of forgeries edit; it is measured once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.forgery import Referee, submitted


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
