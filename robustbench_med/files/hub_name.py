"""Names of weights on the Hugging Face hub: ``hf:OWNER/NAME@REVISION``. Nothing is downloaded here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robustbench_med.errors import BadParameter
from robustbench_med.files.escaping import line

PREFIX = "hf:"
_PART = r"[A-Za-z0-9][\w.-]*"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """Weights on the hub; a revision is a branch, a tag or a commit, "" for the newest commit of the main branch."""

    repo: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + f"@{self.revision}" * bool(self.revision)


def on_hub(weights: object) -> bool:
    """Whether weights are named as on the hub: ``hf:...``."""
    return str(weights).startswith(PREFIX)


def hub_name(text: str) -> HubName:
    """What ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION`` names; the prefix may be left out.

    Raises:
        BadParameter: it is no such name.
    """
    repo, at, revision = text.removeprefix(PREFIX).partition("@")
    whole = re.fullmatch(f"{_PART}/{_PART}", repo, re.ASCII) and len(repo) <= 96
    if not whole or (at and not re.fullmatch(r"\w[\w./+-]*", revision)) or ".." in text or "--" in repo:
        raise BadParameter(
            f"{line(text)[:120]!r} is no name on the hub; valid: hf:OWNER/NAME@REVISION, where the revision is a "
            "branch, a tag or a commit"
        )
    return HubName(repo, revision)
