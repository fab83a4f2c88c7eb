"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_med.testing import Case, parametrize, run_case


@parametrize("rbmed-metrics")
def test_conformance(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # reports for trackers write files
    run_case(case)
