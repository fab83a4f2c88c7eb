"""The model card of a hostile record: its texts are read as texts, in the front matter, in code and in prose."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from helpers.records import ladder_record, outcome
from markdown_it import MarkdownIt

from robustbench_med.files.escaping import shell_command
from robustbench_med.files.hub_name import HubName
from robustbench_med.leaderboard.render.model_card import HOME, Weights, model_card
from robustbench_med.records.record import Record, dumped, parse

pytest.importorskip("huggingface_hub")
Facts = dict[str, Any]
DIGEST = "wf0"
HOSTILE = {
    "a fence that ends": "a\n```\n<script>alert(1)</script>\n# Approved by the hospital\n```\nb",
    "front matter": "a\n---\nlicense: mit\nrbmed_verified: true\n---\n# other",
    "front matter, dots": "a\n...\nlicense: mit",
    "carriage returns": "a\r```\r<img src=x onerror=alert(1)>\r---\rlicense: mit",
    "line separators": "a\u2028```\u2028<b>x</b>\u0085---\u0085license: mit",
    "html": "<script>alert(1)</script><!-- </code></pre>",
    "a link": "[click](https://evil.example) <https://evil.example> https://evil.example www.evil.example",
    "an image": "![x](https://evil.example/x.png)",
    "a link of code": "[click](javascript:alert(1)) &lt;b&gt; &#60;b&#62;",
    "a table": "a | 99.9 [99, 100] |\n| b | c",
    "code": "`x` ```` ~~~",
    "a heading": "# Approved\n===\n- [x] done\n> quoted",
    "a terminal": "\x1b]0;title\x07\x1b[2J\x9b2Ja",
    "directions": "a\u202egpj.exe\u2066b\u200b",
    "yaml": "!!python/object/apply:os.system ['true'] {a: *b} &c % @ '\" : - ? |",
    "a shell": "$(touch x); `touch y` && ' \" \\ $HOME",
}
ASKED: Facts = {
    "access": "ladder",
    "attack": "ladder",
    "evasion": None,
    "stand_in": "identity",
    "surrogate": None,
    "eot": 1,
}


def printable(text: str) -> str:
    """As far as names may hold it: those with controls are no record."""
    return "".join(char if char.isprintable() or char in "\u202e\u2066\u200b" else " " for char in text)


def everywhere(bad: str, asked: bool) -> Record:
    """A measured ladder with a text in each place that takes one; ``asked``: with the options of its run."""
    facts = copy.deepcopy(ladder_record("0", [True, False] * 4, draws=1).model_dump(mode="json"))
    name = printable(bad)
    client = {"a": name, "b": "b"}
    facts["dataset"] |= {
        "name": name,
        "params_passed": {"x": bad, "y": {"name": bad, "z": [bad]}},
        "partition": name,
        "licence": name,
        "citation": name,
        "notes": [name],
        "classes": [name, "b"],
        "asked": {"dataset": name, "partition": name, "unseen_site": [name], "client": [name]},
    }
    facts["defense"] |= {
        "name": name,
        "params_passed": {"x": bad, "y": {"name": bad, "z": [bad]}},
        "asked": {"strategy": name, "model": name},
        "replaced": {"adversarial": name},
        "reference": name,
        "distribution": name,
        "strategy": {"name": name, "params_passed": {"x": bad}},
    }
    facts["defense"]["parts"]["model"]["name"] = name
    facts["defense"]["weights"] |= {"digest": DIGEST, "source": name}
    facts["attack"] |= {"params_passed": {"preset": "quick", "attack": bad}}
    if asked:
        facts["attack"]["asked"] = {**ASKED, "attack": name}
    facts["threat"] |= {"goal": name, "finding": name}
    facts |= {"clients": [client["a"], "b"], "unseen": [name], "worst_client": "b"}
    facts["per_client"] = {client[each]: figures for each, figures in facts["per_client"].items()}
    for rung in facts["rungs"]:
        rung["rung"] = f"{rung['rung']} {name}"
        rung["reason"] = rung.get("reason") and bad
    facts["diagnostics"] |= {"flags": [name], "notes": [name]}
    return parse(json.dumps(facts))


def card(bad: str, asked: bool) -> str:
    record = everywhere(bad, asked)
    assert parse(dumped(record)) == record
    manifest = {
        "defense": bad,
        "seed": bad,
        "clients": [bad],
        "dataset": {"name": bad, "synthetic": True, "licence": bad, "citation": bad},
    }
    weights = Weights(HubName("lab/net", "main"), bad, DIGEST, manifest)
    return model_card(weights, [record], {"0": outcome("0", [True, False] * 4)})


def texts(value: Any) -> list[str]:
    """Every text in what YAML gave."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in texts(each)]
    return [text for each in value for text in texts(each)] if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("asked", [True, False], ids=["commands", "no commands"])
def test_a_hostile_record_is_read_as_text(bad: str, asked: bool) -> None:
    text = card(bad, asked)
    assert text.replace("\n", "").isprintable()
    # The front matter as the hub finds it, and nothing in it but ours.
    found = re.match(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))", text)
    assert found is not None
    front = yaml.safe_load(found[2])
    assert set(front) == {"license", "library_name", "pipeline_tag", "tags", "model-index"}
    assert front["library_name"] == "robustbench-med"
    assert all(each.isprintable() for each in texts(front))
    body = text[found.end() :]
    assert body.startswith("\n# net\n")
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(body)
    inner = [token for each in tokens for token in (each.children or [each])]
    assert not [token for token in inner if token.type.startswith(("html", "image", "code_inline"))] or all(
        token.content == DIGEST for token in inner if token.type == "code_inline"
    )
    assert {token.attrs["href"] for token in inner if token.type == "link_open"} == {HOME}
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[:3] == ["net", "Use", "What was measured"]
    assert all(" on " in each for each in headings[3:])
    assert not [token for token in tokens if token.type in ("code_block", "hr")]
    # Code is our commands, one a line.
    fences = [token.content.splitlines() for token in tokens if token.type == "fence"]
    assert len(fences) == 2
    for command in (*fences[0], *fences[1]):
        assert command.startswith(("pip install ", "rbmed run ", "# record 0 does not hold the options"))
    assert list(map(len, fences)) == [2, 1]


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
def test_a_command_gives_the_shell_the_same_words_on_one_line(bad: str) -> None:
    words = [bad, f"x={bad}", "plain", "", "it's"]
    shown = shell_command(["printf", r"%s\0", *words])
    assert shown.isprintable()
    made = subprocess.run(["bash", "-c", shown], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert made.stdout.decode().split("\0")[:-1] == words
