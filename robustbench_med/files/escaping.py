"""Text of others (records, plugins, claims, file names): shown on one line, and never interpreted.

Neither a terminal, a spreadsheet, Markdown, HTML nor LaTeX takes any of it for a command.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Escape sequences of terminals: colours, cursor, titles, links. Of a title or a link that never ends only the start
#: is taken away: what follows may be our own words.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
#: What turns the direction of writing, or is not seen at all; lone halves of characters, which no file can hold.
_HIDDEN = ("Cf", "Cs", "Co", "Cn")
#: Controls of the direction of writing: what they enclose reads as something else.
_TURNS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_EACH_TURN = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

#: An underline within a word has no effect, and names are full of them.
_MARKUP = re.compile(r"[^A-Za-z0-9 .,:;%+=/()_-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
#: A figure with its interval: ``[27.6, 53.8]`` is no link.
_FIGURE = re.compile(r"[0-9 .,%\[\]-]*")
#: What renderers turn into links by themselves; the last letter becomes an entity.
_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"})
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
    """On one line: no escape sequences of a terminal, white space and controls as one space, hidden characters shown.

    A mark that turns the direction of writing is shown by its number, U+202E in Python's notation, without its effect.
    """
    if text.isprintable() and "  " not in text:  # nearly all texts
        return text.strip()
    return " ".join("".join(map(_shown, _ANSI.sub("", text))).split())


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    if unicodedata.category(char) not in _HIDDEN:
        return " "
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def lines(text: str) -> str:
    """As `line`, but line ends, tabs and spaces stay as they are."""
    if text.isprintable():
        return text
    return "\n".join(each if each.isprintable() else _kept(each) for each in text.split("\n"))


def _kept(text: str) -> str:
    return "".join(char if char == "\t" else _shown(char) for char in _ANSI.sub("", text))


def straight(text: str) -> str:
    """Without marks that turn the direction of writing: they are shown by their number."""
    # Most pages hold none of them, and looking for one is far faster than a pattern.
    if text.isascii() or not any(mark in text for mark in _EACH_TURN):
        return text
    return _TURNS.sub(lambda found: _shown(found[0]), text)


def escape_markdown(text: str) -> str:
    """As plain text of a Markdown table's cell: no markup, HTML, mention, formula or link comes out of it."""
    shown = line(text)
    return shown if _FIGURE.fullmatch(shown) else _LINK.sub(_entity, _MARKUP.sub(_entity, shown))


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def escape_html(value: object) -> str:
    """As plain text of HTML, as `markupsafe.escape` writes it: that takes longer than all else of a large page."""
    return str(value).translate(_HTML)


def shell_command(words: Iterable[str]) -> str:
    """Words as a command on one line, as `shlex.join`; what is not printed is written as bash and zsh read it back."""
    return " ".join(map(_word, words))


def _word(text: str) -> str:
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_of_shell, text)) + "'"


def _of_shell(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_tex(text: str) -> str:
    """As plain text of LaTeX; what is not ASCII becomes a question mark, since fonts differ."""
    shown = "".join(_TEX.get(char, char if char.isascii() else "?") for char in line(text))
    return shown.replace("--", "-{}-")


def escape_csv(text: str) -> str:
    """As text of a spreadsheet's cell: an apostrophe in front keeps a formula from being one.

    Spreadsheets also take the full-width and small forms of the signs for a formula.
    """
    shown = line(text)
    return f"'{shown}" if unicodedata.normalize("NFKC", shown[:1]).startswith(("=", "+", "-", "@", "\u2212")) else shown


def csv_of(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Rows as CSV with these columns, each text in them as `escape_csv` writes it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: escape_csv(value) if isinstance(value, str) else value for name, value in row.items()})
    return out.getvalue()
