"""Figures as people read them. None is a dash, and shares are percent with one decimal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from robustbench_med.interfaces import rate
from robustbench_med.leaderboard.entry import Figure

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@lru_cache(maxsize=65536)  # shares of a few images: thousands of pages show the same few
def percent(value: float | None) -> str:
    """`rate.percent` with a typographic minus, and a dash for nothing."""
    return or_dash(rate.percent(value).replace("-", MINUS))


def share(figure: Figure | None) -> str:
    """The value of a share."""
    return percent(figure.value if figure else None)


def interval(figure: Figure | None) -> str:
    """``85\N{EN DASH}92``, in percent, ``by images`` where patients are not recorded; "" where there is none."""
    if figure is None or figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{100 * low:.0f}{DASH}{100 * high:.0f}{' by images' * figure.by_images}"


@lru_cache(maxsize=65536)
def count(value: float | None) -> str:
    """1234567 -> ``1.2 M``, 640 -> ``640``."""
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}\N{NO-BREAK SPACE}{letter}"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.1f}"


def or_dash(text: str) -> str:
    """A dash for nothing."""
    return text or DASH


def plain(value: float | None, digits: int = 3) -> str:
    """A number that is no share: an AUROC, milliseconds."""
    return DASH if value is None else f"{value:.{digits}f}"


def breakable(name: str) -> Markup:
    """A name as on the command line, which may go on in a new line after ``:`` and ``,`` and nowhere else."""
    wbr = Markup("<wbr>")
    return wbr.join(escape(part) for part in re.split("(?<=[:,])(?! )", name))


def listed(items: Iterable[object]) -> str:
    """``0, 1, 2``; a dash for nothing."""
    return ", ".join(map(str, items)) or DASH


def web(url: str) -> str:
    """The address where it is one of the web, else "": a record of a third party must not link to a script."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""
