"""Adversarial images of others: what the deployed system answered them, re-scored here. The best known attack wins.

An evidence file names a cell of the leaderboard, the attack, and the digest of the images (safetensors with ``index``,
rows of the test split, and ``images`` in [0, 1]); the images themselves stay with whoever hands them in.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from robustbench_med.files.atomic import write_text
from robustbench_med.files.strict_json import strict_file
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources import image_results as kept
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.reading import reading
from robustbench_med.leaderboard.sources.submission import NAME, PaperFacts
from robustbench_med.records.sections.base import Name

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
    with reading(path, "evidence"):
        return _parsed(path, strict_file(path))


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    name: str
    cell_id: str
    attack: Name
    paper: PaperFacts
    images_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    choice: Any
    outcome: Any


def _parsed(path: Path, facts: Any) -> Evidence:
    file = _File.model_validate(facts)
    choice, outcome = (kept.parse(json.dumps(each)) for each in (file.choice, file.outcome))
    if not NAME.fullmatch(file.name) or file.name != path.stem:
        raise ValueError(f"it calls itself {file.name!r:.100}, its file {path.stem!r:.100}")
    if choice.index != outcome.index or {choice.cell_id, outcome.cell_id} != {file.cell_id}:
        raise ValueError("its answers are to other images, or of another cell")
    return Evidence(file.name, file.cell_id, file.attack, file.paper.paper(), file.images_sha256, choice, outcome)
