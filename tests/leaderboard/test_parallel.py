"""Work is shared out over the cores: the results are those of one core, whatever happens to a fork."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from helpers.leaderboard import example

from robustbench_med.leaderboard import parallel
from robustbench_med.leaderboard.build import rendered
from robustbench_med.leaderboard.sources.folder import read_sources

HERE = os.getpid()


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks although threads that other tests have left behind, such as those of bars, wait in this process."""
    monkeypatch.setattr(parallel, "_may_fork", lambda: True)


class Known:
    """Stands for a record: results refer to it, and it is not copied."""


@pytest.mark.usefixtures("forking")
def test_results_come_in_order_and_refer_to_what_is_known() -> None:
    known = [Known(), Known()]
    found = parallel.done(lambda at: (at, known[at % 2]), 500, known, cores=3)
    assert [each[0] for each in found] == list(range(500))
    assert all(each[1] is known[at % 2] for at, each in enumerate(found))


@pytest.mark.usefixtures("forking")
def test_forks_work_too() -> None:
    """This process waits until another has taken a part."""
    read, write = os.pipe()

    def work(at: int) -> int:
        if os.getpid() == HERE and at == 0:
            os.read(read, 1)
        else:
            os.write(write, b".")
        return os.getpid()

    assert len(set(parallel.done(work, 20, cores=2))) == 2
    os.close(read)
    os.close(write)


@pytest.mark.usefixtures("forking")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_error_is_that_of_one_core(count: int) -> None:
    def work(at: int) -> int:
        if at in (3, 400):
            raise ValueError(f"piece {at}")
        return at

    with pytest.raises(ValueError, match="piece 3"):
        parallel.done(work, 500, cores=count)


@pytest.mark.usefixtures("forking")
def test_what_a_fork_does_not_bring_is_done_here() -> None:
    def killed(at: int) -> int:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return at

    def unsendable(at: int) -> object:
        return at if os.getpid() == HERE else threading.Lock()

    assert parallel.done(killed, 300, cores=2) == list(range(300))
    assert parallel.done(unsendable, 300, cores=2) == list(range(300))


def test_little_work_and_threads_mean_one_process() -> None:
    assert set(parallel.done(lambda _: os.getpid(), parallel.LEAST - 1)) == {HERE}
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        assert set(parallel.done(lambda _: os.getpid(), 1000, cores=2)) == {HERE}
    finally:
        wait.set()
        thread.join()


def test_a_leaderboard_is_the_same_on_any_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = read_sources(example(tmp_path))
    one = rendered(sources)
    monkeypatch.setattr(parallel, "LEAST", 1)
    monkeypatch.setattr(parallel, "_available", lambda: 2)
    monkeypatch.setattr(parallel, "_may_fork", lambda: True)
    assert list(rendered(sources).items()) == list(one.items())
