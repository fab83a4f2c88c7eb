"""Text of others is shown, and no terminal, page or reader takes it for a command."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_med.cli.console import PlainConsole
from robustbench_med.files.escaping import line, lines, straight


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as\nasked\r\n", "as asked"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x98: unknown field", ": unknown field"),
        ("\x1b]0;it never ends", "0;it never ends"),
        ("a\x00b\x08c\x7fd\x85e", "a b c d e"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u2066b\u200bc\ufeff", "a\\u2066b\\u200bc\\ufeff"),
        ("\udc80", "\\udc80"),
        ("a\u2028b\u00a0c", "a b c"),
        ("Größe 4 µm, 日本", "Größe 4 µm, 日本"),
    ],
)
def test_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert line(text) == shown
    assert line(shown) == shown


@given(st.text())
def test_any_text_is_printable_then(text: str) -> None:
    assert line(text).isprintable()
    assert lines(text).replace("\n", "").replace("\t", "").isprintable()
    line(text).encode()
    assert straight(text).isascii() or not set(straight(text)) & set("\u200e\u202a\u202e\u2066\u2069")


@given(st.text())
def test_nothing_but_our_own_styles_reaches_a_terminal(text: str) -> None:
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=40, highlight=False)
    console.print(text, style="red", markup=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for code in ("\x1b[31m", "\x1b[0m"):
        shown = shown.replace(code, "")
    assert shown.replace("\n", "").isprintable()
