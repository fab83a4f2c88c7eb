"""How a row is loaded and measured again: lines to copy."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from robustbench_med.errors import BadConfig
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import command

#: Options in which the cells of a row differ.
SEEDS = ("--seed", "--train-seed")
#: Options of training that `load_defense` takes.
TRAINING = ("model", "strategy", "adversarial", "malicious", "engine")


def commands(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Commands that measure records again, one for those that differ in a seed only; and why there is none."""
    lines: list[str] = []
    missing = []
    for record in records:
        try:
            lines.append(command(record))
        except BadConfig as error:
            missing.append(f"{error}.")
    asked = []
    left = list(dict.fromkeys(lines))
    while left:
        name, alike = max((_alike(left[0], left, name) for name in SEEDS), key=lambda each: len(each[1]))
        if len(alike) > 1:
            seeds = " ".join(_seed(line, name) for line in alike)
            shape = _without(left[0], name)
            asked.append(f"for seed in {seeds}; do\n  {shape} --out results/$seed\ndone")
        else:
            asked.append(left[0])
        left = [line for line in left if line not in alike]
    return asked, missing


def _alike(line: str, lines: Sequence[str], name: str) -> tuple[str, list[str]]:
    """The commands that differ from one in this seed only, itself included, and in where their results go."""
    if not _seed(line, name):
        return name, [line]
    return name, [other for other in lines if _seed(other, name) and _without(other, name) == _without(line, name)]


def _seed(line: str, name: str) -> str:
    found = re.search(rf" {name} (\d+)(?= )", line)
    return found[1] if found else ""


def _without(line: str, name: str) -> str:
    line = re.sub(rf" {name} \d+(?= )", f" {name} $seed", line, count=1)
    return re.sub(r" --out \S+$", "", line)


def snippet(record: Record) -> str:
    """Python that loads the defense of a record; "" where the record does not hold the options of its run."""
    data = record.dataset.asked
    if data is None:
        return ""
    defense = record.defense
    asked = {name.replace("-", "_"): text for name, text in {**defense.asked, **defense.replaced}.items()}
    name = format_ref(PartRef(defense.name, defense.params_passed))
    words = [_text(name), _text(data.dataset or record.dataset.name)]
    words += [f"{name}={_text(str(asked[name]))}" for name in TRAINING if asked.get(name)]
    if defense.weights.seed is not None:
        words.append(f"train_seed={defense.weights.seed}")
    words += [f"partition={_text(data.partition)}"] if data.partition else []
    words += [f"unseen_site={list(map(str, data.unseen_site))!r}"] if data.unseen_site else []
    client = record.clients[0] if record.clients else ""
    return (
        "import robustbench_med as rbmed\n\n"
        f"defense = rbmed.load_defense({', '.join(words)})\n"
        f"system = defense.pipeline({_text(client)})"
    )


def _text(value: str) -> str:
    """A string of Python, whatever it holds."""
    return json.dumps(value)
