"""The revision of the rule that sets a detector's threshold; apart, so that reading it loads nothing heavy."""

from __future__ import annotations

#: Raised when the same scores of calibration images would give another gate. 1: the quantile of calibration scores; 2:
#: the conformal rank; 3: within reach of images with barely wrong answers.
GATE_REVISION = 3
