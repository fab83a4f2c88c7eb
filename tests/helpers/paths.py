"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
#: A complete plugin in one file.
TOY = HELPERS / "toy_plugin.py"
