"""Adversarial images of others: what the deployed system answered them, re-scored here. The best known attack wins.

An evidence file names a cell of the leaderboard, the attack, and the digest of the images (safetensors with ``index``,
rows of the test split, and ``images`` in [0, 1]); the images themselves stay with whoever hands them in.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from robustbench_med.errors import DataError, shortened
from robustbench_med.files.atomic import write_text
from robustbench_med.files.strict_json import strict_json
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources import image_results as kept
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.submission import NAME, URL

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Evidence:
    """Answers to adversarial images.

    Attributes:
        name: of the file.
        cell_id: a measured cell of the system, the data and the threat model that the images are for.
        attack: what made them, in words.
        paper: where that is published.
        digest: SHA-256 of the file of images.
        choice: answers on the noise draws that choose between this attack and others.
        outcome: answers on other draws, which count; for a system without noise they are the same.
    """

    name: str
    cell_id: str
    attack: str
    paper: Paper
    digest: str
    choice: ImageResults
    outcome: ImageResults


def write(path: Path, evidence: Evidence) -> None:
    """Write an evidence file.

    Raises:
        StoreError: it cannot be written.
    """
    facts = {
        "format": FORMAT,
        "name": evidence.name,
        "cell_id": evidence.cell_id,
        "attack": evidence.attack,
        "paper": asdict(evidence.paper),
        "images_sha256": evidence.digest,
    }
    answers = f'"choice": {kept.dumped(evidence.choice)},\n"outcome": {kept.dumped(evidence.outcome)}'
    write_text(path, f"{json.dumps(facts)[:-1]},\n{answers}}}\n")


def read(path: Path) -> Evidence:
    """Read an evidence file.

    Raises:
        DataError: it is none; the first thing that is wrong is named.
    """
    try:
        facts = strict_json(path.read_bytes())
        if not isinstance(facts, dict) or facts.get("format") != FORMAT or "images_sha256" not in facts:
            raise ValueError(f"its format is not {FORMAT}")
        choice, outcome = (kept.parse(json.dumps(facts[what])) for what in ("choice", "outcome"))
        name, cell_id, attack, digest = (str(facts[what]) for what in ("name", "cell_id", "attack", "images_sha256"))
        paper = Paper(str(facts["paper"]["text"]), str(facts["paper"]["url"]))
    except OSError as error:
        raise DataError(f"evidence {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is no evidence: {shortened(what)}") from None
    if not NAME.fullmatch(name) or name != path.stem or not re.fullmatch("[0-9a-f]{64}", digest):
        raise DataError(f"{path} is no evidence: it calls itself {shortened(name)!r}, or has no digest of the images")
    if not URL.fullmatch(paper.url) or choice.index != outcome.index:
        raise DataError(f"{path} is no evidence: its paper has no address, or its answers are to other images")
    return Evidence(name, cell_id, attack, paper, digest, choice, outcome)
