"""Removes paths of this machine, and names of users in them, from the text in records."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

#: Replaces removed text.
GONE = "…"
_END = r"[^\s'\"`:;,()\[\]<>|]"
_PATHS = re.compile(
    rf"(?<![\w./{GONE}-])(?:~[\w.-]*)?/(?!/){_END}+"  # /home/me/file, ~/file, ~me/file
    rf"|(?<!\w)[A-Za-z]:[\\/]{_END}*"  # C:\Users\me
    rf"|(?<![\w\\])\\\\{_END}+"  # \\server\share
)


def redacted(text: str) -> str:
    """The text with every absolute path shortened to its last name: ``/home/me/data/a.png`` -> ``…/a.png``.

    Paths with fewer than three names are removed completely, because the second is often the user.
    """
    for known in (Path.cwd(), Path.home()):  # they may contain spaces, which end a path below
        if len(known.parts) > 1:
            text = re.sub(rf"{re.escape(str(known))}(?![\w.-])", GONE, text)
    return _PATHS.sub(lambda match: _short(match[0]), text)


def command_line(argv: list[str]) -> str | None:
    """The ``rbmed`` command line with shortened paths; None for another program."""
    if not argv or Path(argv[0]).name not in ("rbmed", "rbmed.exe", "__main__.py"):
        return None
    return " ".join(["rbmed", *(_quoted(_argument(word)) for word in argv[1:])])


def _argument(word: str) -> str:
    """One argument; a path in it extends to its end, spaces included."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if _PATHS.match(value):
        value = _short(value)
    return redacted(option + equals + value)


def _quoted(word: str) -> str:
    return f"'{word}'" if re.search(r"[\s'\"$`\\;&|<>()*?]", word) or not word else word


def _short(path: str) -> str:
    *_, parent, last = ["", "", *re.split(r"[\\/]+", path.strip("\\/"))]
    names = [name for name in re.split(r"[\\/]+", path) if name]
    return GONE if not parent or len(names) < 3 or last == _user() else f"{GONE}/{last}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return ""
