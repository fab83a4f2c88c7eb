"""Escaping for each format: text of a record, a claim or a paper is shown and never interpreted."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[^A-Za-z0-9 .,:;%+=/()-]")
#: What renderers turn into links by themselves; the last letter becomes an entity.
_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",
    "]": "{]}",
    "…": r"\dots{}",
}


def line(text: str) -> str:
    """On one line, without what cannot be printed (line ends, marks that turn the direction of writing)."""
    if text.isprintable() and "  " not in text:  # nearly all texts
        return text.strip()
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def markdown(text: str) -> str:
    """As plain text of a Markdown table's cell: no markup, HTML, mention, formula or link comes out of it."""
    return _LINK.sub(_entity, _MARKUP.sub(_entity, line(text)))


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def tex(text: str) -> str:
    """As plain text of LaTeX; what is not ASCII becomes a question mark, since fonts differ."""
    shown = "".join(_TEX.get(char, char if char.isascii() else "?") for char in line(text))
    return shown.replace("--", "-{}-")


def csv(text: str) -> str:
    """As text of a spreadsheet's cell: an apostrophe in front keeps a formula from being one."""
    shown = line(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown
