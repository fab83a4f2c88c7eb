"""For plugin authors: one call that checks what a plugin offers.

::

    from robustbench_med.testing import check_plugin

    def test_conformance():
        check_plugin("rbmed-foo")
"""

from __future__ import annotations

from robustbench_med.testing.conformance import check_plugin, faults
from robustbench_med.testing.interrupt import Stop, StopAfter
from robustbench_med.testing.toys import ToyClassifier, toy_images, toy_outcome, toy_surface

__all__ = ["Stop", "StopAfter", "ToyClassifier", "check_plugin", "faults", "toy_images", "toy_outcome", "toy_surface"]
