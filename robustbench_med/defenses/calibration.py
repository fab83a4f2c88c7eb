"""Gates that were fixed before, kept beside the weights or under ``RBMED_HOME``, with a digest.

Gates are deterministic in weights and data, so a damaged file is passed over with a warning and its gates are fixed
anew; a wrong digit in it would otherwise move a threshold unseen.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from robustbench_med.defenses.blueprint import key_of
from robustbench_med.defenses.pipeline import Gate
from robustbench_med.errors import StoreWarning
from robustbench_med.files.atomic import write_text


def read_gates(path: Path, key: str) -> dict[str, Gate]:
    """The gates by client that a file holds under ``key``; none where it is absent, of another key, or damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        facts, digest = stored["gates"], stored["digest"]
        if key_of(facts) != digest:
            raise ValueError("its digest is another")
        gates = {client: Gate(**gate) for client, gate in facts.items()}
        if any(not math.isfinite(bound) for gate in gates.values() for bound in asdict(gate).values()):
            raise ValueError("a bound is not finite")
        return gates if stored["key"] == key else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"calibration {path} is damaged ({reason}); its gates are fixed anew", StoreWarning, stacklevel=3)
        return {}


def write_gates(path: Path, key: str, gates: Mapping[str, Gate]) -> None:
    """Keep gates by client under ``key``.

    Raises:
        StoreError: they cannot be written.
    """
    facts = {client: asdict(gate) for client, gate in gates.items()}
    write_text(path, json.dumps({"key": key, "digest": key_of(facts), "gates": facts}, indent=1) + "\n")
