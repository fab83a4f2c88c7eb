"""Code blocks of the documentation, and why some are not run.

A block is run unless a comment precedes it::

    <!-- not run: why -->        it is not
    <!-- planned: why -->        runs in it are planned: every name, parameter and option is looked up
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>not run|planned): (?P<why>[^>]+) -->\n\s*)?"
    r"```(?P<info>[^\n`]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, the file it is to be saved as, its text, and its mark."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    mark: str
    why: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Lines of a shell, comments and continuations taken away."""
        joined = self.text.replace("\\\n", " ")
        lines = (re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        language, _, options = match["info"].partition(" ")
        title = re.search(r'title="([^"]+)"', options)
        line = text[: match.start("info")].count("\n") + 1
        indent = match["indent"]
        body = "".join(row.removeprefix(indent) for row in match["text"].splitlines(keepends=True))
        found.append(
            Block(
                page, line, language, title[1] if title else "", body, match["mark"] or "", (match["why"] or "").strip()
            )
        )
    return found
