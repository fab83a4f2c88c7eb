"""Records hold no paths of the machine and no names of users."""

from __future__ import annotations

import getpass
import shlex
from pathlib import Path

import pytest
from helpers.records import record
from hypothesis import given
from hypothesis import strategies as st

from robustbench_med.files.redact import command_line, portable, redacted
from robustbench_med.leaderboard.sources.record_form import is_own_command

NAMES = st.text("abcdefgh0123_-", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/mri/images/a.png is not an image", "…/a.png is not an image"),
        ("weights '/srv/x/y/classifier.safetensors' are corrupt", "weights '…/classifier.safetensors' are corrupt"),
        ("see ~/results/run1 and ~anna/x", "see …/run1 and …"),
        (r"C:\Users\anna\data.csv, D:\x", "…/data.csv, …"),
        (r"\\server\share\scan.png", "…/scan.png"),
        ("--data-root=/mnt/big/lgg", "--data-root=…/lgg"),
        ("imagefolder:root=/mnt/big/lgg,size=64", "imagefolder:root=…/lgg,size=64"),
        ("/home/anna", "…"),
        ("/mnt/anna smith/my scans, old (2)/a.png is not an image", "…/a.png is not an image"),
        ("imagefolder:root=/mnt/anna smith/a,b/lgg,size=64", "imagefolder:root=…/lgg,size=64"),
        ("cannot read '/mnt/anna smith/scan 1, left.png' now", "cannot read '…/scan 1, left.png' now"),
        ("file:///home/anna/a.png, file://host/srv/anna/b.png, file:/srv/anna/c", "…/a.png, …/b.png, …/c"),
        ("../../anna/scans/a.png; data/../../anna/x/b.png", "…/a.png; …/b.png"),
        (r"..\..\anna\scans\a.png", "…/a.png"),
        (r"C:\Users\anna smith\my data.csv", "…/my data.csv"),
        (r"C:\Program Files (x86)\anna\x.csv", "…/x.csv"),
        ("C:/Users/anna/x.csv", "…/x.csv"),
        (r"\\?\C:\Users\anna\x.csv", "…/x.csv"),
        ("//server/share/anna/x.csv", "…/x.csv"),
        (r"~\anna\x.csv or ~anna/scans/y.csv", "…/x.csv or …/y.csv"),
        ("/home/o'brien/scans/a.png", "…/a.png"),
        ("https://anna:pa55@host.example/a/b", "https://…@host.example/a/b"),
        (
            "https://h.example/a?token=abc&x=1&X-Amz-Signature=f%2F#access_token=q",
            "https://h.example/a?token=…&x=1&X-Amz-Signature=…#access_token=…",
        ),
        ("postgres://anna@db/x", "postgres://…@db/x"),
        ("eps 4/255, FPR/TPR and/or linf/l2, a / b, https://example.org/a/b", None),
        ("results/brainsim/records.jsonl", None),
        ("rbmed-attacks/apgd", None),
        ("ratio 1:2/3", None),
    ],
)
def test_paths_are_shortened_and_nothing_else(text: str, expected: str | None) -> None:
    assert redacted(text) == (text if expected is None else expected)


def test_folders_of_the_user_go_even_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "Anna Smith"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    assert redacted(f"cannot read {home}/data/scan 1.png") == "cannot read …/data/scan 1.png"
    assert redacted(str(home)) == "…"
    assert redacted(f"{home}s/x") != "…s/x"


def test_the_name_of_the_user_is_not_kept() -> None:
    assert redacted(f"/media/usb/{getpass.getuser()}") == "…"


@given(st.lists(NAMES, min_size=1, max_size=6), st.sampled_from(["", "cannot read ", "a=", "'", "("]))
def test_of_any_path_only_the_last_name_is_kept(names: list[str], before: str) -> None:
    short = redacted(before + "/" + "/".join(names))
    assert short in (before + "…", f"{before}…/{names[-1]}")
    assert redacted(short) == short


@given(st.text(max_size=60))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_the_command_is_kept_as_it_was_typed_without_paths() -> None:
    argv = ["/venv/bin/rbmed", "run", "--eps", "4/255", "--data-root", "/mnt/anna smith/lgg", "--out=/srv/x/out", "a b"]
    assert command_line(argv) == "rbmed run --eps 4/255 --data-root …/lgg --out=…/out 'a b'"
    assert command_line(["/x/robustbench_med/__main__.py", "list"]) == "rbmed list"
    assert command_line(["/usr/bin/pytest", "-q"]) is None
    assert command_line([]) is None


def test_a_command_of_any_text_is_kept_on_one_line() -> None:
    argv = ["rbmed", "run", "--out", "a\nb\x1b[31mc\u202e\udc80", "x" * 2000]
    shown = command_line(argv)
    assert shown is not None
    assert shown.startswith("rbmed run --out 'a bc\\u202e\\udc80'")
    assert shown.isprintable()
    assert len(shown) == 1000


def test_paths_of_a_record_are_relative_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "my study"
    here.mkdir()
    monkeypatch.chdir(here)
    asked = {"model": f"pytorch:source={here}/models/net.py:build,weights=/srv/anna smith/w.pt", "n": [1, f"{here}/w"]}
    assert portable(asked) == {"model": "pytorch:source=models/net.py:build,weights=…/w.pt", "n": [1, "w"]}
    assert portable("/srv/anna smith/x, y/w 1.pt") == "…/w 1.pt"
    command = command_line(
        ["rbmed", "run", "--weights", f"{here}/w.pt", f"--model={here}/net.py:build", "/a/b/c d.toml"]
    )
    assert command == "rbmed run --weights w.pt --model=net.py:build '…/c d.toml'"


def test_reasons_in_records_are_redacted() -> None:
    left = {"rung": "transfer apgd", "access": "transfer", "reason": "no weights in /srv/anna/w/x; train them"}
    made = record(status="failed", reason="OSError: /srv/anna/data/a.png", rungs=[left])
    assert made.reason == "OSError: …/a.png"
    assert made.rungs[0].reason == "no weights in …/x; train them"


@pytest.mark.parametrize(
    "word", ["it's.toml", "'", "''", "a 'b' c;d", "\\", "x\u200cy", "y z" * 400, "'" * 999, "a'b" * 330]
)
def test_a_command_with_quotes_is_read_back_by_a_shell_and_is_one_of_ours(word: str) -> None:
    shown = command_line(["rbmed", "run", word])
    assert shown is not None
    assert is_own_command(shown)
    if len(shown) < 1000:
        assert shlex.split(shown) == ["rbmed", "run", word.replace("\u200c", "\\u200c")]
