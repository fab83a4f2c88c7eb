"""Removes paths of this machine, and names of users in them, from the text in records."""

from __future__ import annotations

import getpass
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from robustbench_med.files.escaping import line

#: Characters of a command line that are kept.
LONGEST = 1000
#: Replaces removed text.
GONE = "…"
_END = r"[^\s'\"`:;,()\[\]<>|]"
_WORD = rf"(?:[^\s'\"`:;,()\[\]<>|/\\{GONE}]|(?<=\w)'(?=\w))++"
#: A folder's name, followed by a separator: it may have spaces, commas and brackets, but ``,key=`` starts an option.
#: Too much is taken for a path rather than too little: words between two paths may go with the first.
_FOLDER = rf"{_WORD}(?:(?:, ?(?!\w+=)| ?\(|\) ?| )(?!~|\.\.){_WORD}){{0,5}}\)?[\\/]+"
_TAIL = rf"(?:{_FOLDER})*{_END}*"
_PATH = (
    rf"(?<![\w./{GONE}-])(?:~[\w.-]*)?/(?![/\s]){_TAIL}"  # /home/me/file, ~/file, ~me/file
    rf"|(?<![\w.:/{GONE}-])//(?![/\s]){_FOLDER}{_TAIL}"  # //server/share
    rf"|(?<![\w./\\{GONE}-])(?:(?!\.\.[\\/])[\w.-]++[\\/])*+\.\.[\\/]{_TAIL}"  # ../me/file, a/../../file
    rf"|(?<![\w+.-])file:(?://[^/\s]*)?[\\/]+{_TAIL}"  # file:///home/me
    rf"|(?<!\w)[A-Za-z]:[\\/]{_TAIL}"  # C:\Users\me, C:/Users/me
    rf"|(?<![\w\\])~[\w.-]*\\{_TAIL}"  # ~\file
    rf"|(?<![\w\\])\\\\(?:[?.]\\)?(?:[A-Za-z]:\\)?{_TAIL}"  # \\server\share, \\?\C:\Users
)
_PATHS = re.compile(_PATH)
#: Within quotes a path extends to the closing one.
_QUOTED = re.compile(rf"(['\"`])(?=(?:{_PATH}))(?!{GONE})((?:(?!\1).)+)\1")
_LOGIN = re.compile(rf"(?<=://)(?!{GONE}@)[^\s/?#]*@")
_SECRET = re.compile(
    rf"([?&;#](?:[\w.-]*(?:token|key|secret|sig|signature|passw|pwd|auth|credential|session)[\w.-]*)=)(?!{GONE})[^&;#\s'\"]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text with every absolute path shortened to its last name: ``/home/me/data/a.png`` -> ``…/a.png``.

    Paths with fewer than three names are removed completely, because the second is often the user. So are relative
    paths that leave their folder (``..``), and logins and secrets in addresses.
    """
    if "/" not in text and "\\" not in text:  # nearly all texts
        return text
    return _redacted(text, str(Path.cwd()), str(Path.home()))


@lru_cache(maxsize=4096)  # records repeat the same reasons
def _redacted(text: str, *known: str) -> str:
    text = _SECRET.sub(rf"\1{GONE}", _LOGIN.sub(f"{GONE}@", text))
    for folder in known:
        if len(Path(folder).parts) > 1:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", GONE, text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{_short(found[2])}{found[1]}", text)
    return _PATHS.sub(lambda match: _short(match[0]), text)


def portable(value: Any) -> Any:
    """Values of a record's parameters: a path within the current folder is relative to it, others are `redacted`."""
    if isinstance(value, str):
        here = Path.cwd()
        if len(here.parts) > 1:
            value = re.sub(rf"(?<![\w.-]){re.escape(str(here))}/(?=[^\s/])", "", value)
        return _short(value) if _PATHS.fullmatch(value) else redacted(value)
    if isinstance(value, dict):
        return {key: portable(each) for key, each in value.items()}
    return [portable(each) for each in value] if isinstance(value, list | tuple) else value


def command_line(argv: list[str]) -> str | None:
    """The ``rbmed`` command line with shortened paths; None for another program."""
    if not argv or Path(argv[0]).name not in ("rbmed", "rbmed.exe", "__main__.py"):
        return None
    text = line(" ".join(["rbmed", *(_quoted(line(_argument(word))) for word in argv[1:])]))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + GONE


def _argument(word: str) -> str:
    """One argument; a path in it extends to its end, spaces included."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    value = portable(value)
    if _PATHS.match(value):  # a path extends to the end of the argument, whatever is in it
        value = _short(value)
    return option + equals + value


def _quoted(word: str) -> str:
    """A word as a shell reads it back."""
    special = re.search(r"[\s'\"$`\\;&|<>()*?]", word) or not word
    return "'" + word.replace("'", r"'\''") + "'" if special else word


def _short(path: str) -> str:
    *_, parent, last = ["", "", *re.split(r"[\\/]+", path.strip("\\/"))]
    names = [name for name in re.split(r"[\\/]+", path) if name]
    return GONE if not parent or len(names) < 3 or last == _user() else f"{GONE}/{last}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return ""
