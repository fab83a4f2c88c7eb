"""What the code of a plugin may not change of the process is restored after its call."""

from __future__ import annotations

import sys
import threading

import pytest

from robustbench_med.plugins.calls import process_kept


def test_what_is_printed_within_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with process_kept():
        print("part")  # noqa: T201 -- as the code of a plugin may
        with process_kept():
            print("inner")  # noqa: T201
        print("part again")  # noqa: T201
    print("result")  # noqa: T201
    assert capsys.readouterr() == ("result\n", "part\ninner\npart again\n")


@pytest.mark.parametrize("nested", [False, True])
def test_calls_that_overlap_in_threads_leave_the_streams_as_they_were(nested: bool) -> None:
    before, entered, leave = (sys.stdout, sys.stderr), threading.Event(), threading.Event()

    def other() -> None:
        with process_kept():
            entered.set()
            leave.wait(30)
            if nested:
                with process_kept():
                    pass

    thread = threading.Thread(target=other)
    with process_kept():
        thread.start()
        entered.wait(30)  # the other one begins within this one and ends after it
    leave.set()
    thread.join()
    assert (sys.stdout, sys.stderr) == before
