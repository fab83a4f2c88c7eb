"""What others have published: claims, papers and data sets, from ``claims.toml``.

::

    [[claim]]
    name = "MedFedPure"
    dataset = "Br35H"
    attack = "PGD, 7 steps"
    clean = 97.67                  # percent, as papers have it; left out where not given
    robust = 87.33
    source = "Karami et al. 2025, table 1"
    url = "https://arxiv.org/abs/2511.11625"
    defense = "medfedpure"         # shown next to our rows of this defense (or strategy = "...")

    [paper.defense.medfedpure]     # or paper.strategy.NAME
    text = "Karami et al. 2025"
    url = "https://arxiv.org/abs/2511.11625"

    [dataset.0f776b701c36d096ee60c7e56a83c165]  # digest of the images, which leaderboard.json says
    name = "BUSI breast ultrasound"             # where the reader's name, such as imagefolder, says nothing
    text = "Al-Dhabyani et al. 2020"
    url = "https://doi.org/10.1016/j.dib.2019.104863"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from robustbench_med.errors import BadConfig, first_fault
from robustbench_med.files import toml_file
from robustbench_med.leaderboard.board import PublishedData
from robustbench_med.leaderboard.entry import Claim, Paper
from robustbench_med.leaderboard.sources.reading import is_there
from robustbench_med.leaderboard.sources.submission import URL
from robustbench_med.records.sections.base import Name

_Percent = Annotated[float, Field(ge=0, le=100)]


def _an_address(text: str) -> str:
    if text and not URL.fullmatch(text):
        raise ValueError(f"{text!r:.100} is no address of a page, as https://arxiv.org/abs/2511.11625")
    return text


_Url = Annotated[str, pydantic.AfterValidator(_an_address)]


@dataclass(frozen=True)
class Publications:
    """Claims; papers by kind and name, and data sets by digest.

    Kinds are ``defense``, ``strategy``, or ``cell`` for submitted records.
    """

    claims: tuple[Claim, ...] = ()
    papers: dict[tuple[str, str], Paper] = field(default_factory=dict)
    datasets: dict[str, PublishedData] = field(default_factory=dict)


class _Claim(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    name: Name
    dataset: Name
    attack: Name
    clean: _Percent | None = None
    robust: _Percent | None = None
    source: Name
    url: _Url = ""
    note: Name = ""
    defense: Name = ""
    strategy: Name = ""


class _Paper(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    text: Name
    url: _Url = ""


class _Dataset(_Paper):
    name: Name


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    claim: list[_Claim] = []
    paper: dict[str, dict[Name, _Paper]] = {}
    dataset: dict[Name, _Dataset] = {}

    @pydantic.field_validator("paper")
    @classmethod
    def _kinds(cls, value: dict[str, dict[str, _Paper]]) -> dict[str, dict[str, _Paper]]:
        if strange := sorted(set(value) - {"defense", "strategy"}):
            raise ValueError(f"{strange[0]!r} is no kind; valid: defense, strategy")
        return value


def read_claims(path: Path) -> Publications:
    """Claims and papers of a file; none where there is no file.

    Raises:
        BadConfig: it is not TOML, or holds something else.
        DataError: it is no file.
    """
    if not is_there(path, "claims"):
        return Publications()
    try:
        found = _File.model_validate(toml_file.read(path))
    except pydantic.ValidationError as error:
        raise BadConfig(f"{path}: {first_fault(error)}") from None
    claims = [
        Claim(**claim.model_dump() | {side: _share(getattr(claim, side)) for side in ("clean", "robust")})
        for claim in found.claim
    ]
    papers = {
        (kind, name): Paper(paper.text, paper.url)
        for kind, named in found.paper.items()
        for name, paper in named.items()
    }
    datasets = {digest: PublishedData(data.name, Paper(data.text, data.url)) for digest, data in found.dataset.items()}
    return Publications(tuple(claims), papers, datasets)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
