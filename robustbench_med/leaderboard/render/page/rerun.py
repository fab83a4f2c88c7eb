"""How a row is loaded and measured again: lines to copy."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.records.record import Record
from robustbench_med.records.rerun import command, request

#: Options in which the cells of a row differ.
SEEDS = ("seed", "train_seed")
#: Options of training that `load_defense` takes.
TRAINING = ("model", "strategy", "adversarial", "malicious", "engine")


def commands(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """Commands that measure records again, one for those that differ in a seed only; and why there is none."""
    left: list[tuple[Record, dict[str, Any]]] = []
    missing = []
    for record in records:
        try:
            left.append((record, request(record)))
        except BadConfig as error:
            missing.append(f"{error}.")
    asked = []
    while left:
        first, options = left[0]
        name, alike = max((_alike(left, name) for name in SEEDS), key=lambda each: len(each[1]))
        line = _with_images(command(first), first)
        if len(alike) > 1:
            option = name.replace("_", "-")
            shape = re.sub(rf" --{option} \d+(?= )", f" --{option} $seed", line.rpartition(" --out ")[0], count=1)
            seeds = " ".join(str(each[name]) for _, each in alike)
            asked.append(f"for seed in {seeds}; do\n  {shape} --out results/$seed\ndone")
        else:
            asked.append(line)
        left = [each for each in left if each[1] != options and each not in alike]
    return asked, missing


def _with_images(line: str, record: Record) -> str:
    """The command with the folder of images, which only simulated data do without."""
    if record.dataset.synthetic:
        return line
    before, out, place = line.rpartition(" --out ")
    return f"{before} --data-root FOLDER{out}{place}"


def _alike(
    found: Sequence[tuple[Record, dict[str, Any]]], name: str
) -> tuple[str, list[tuple[Record, dict[str, Any]]]]:
    """Those that differ from the first in this seed only, itself included, one for each seed."""
    first = found[0][1]
    if not str(first.get(name, "")).isdigit():
        return name, [found[0]]
    others = {
        str(each[1].get(name)): each for each in reversed(found) if {**each[1], name: None} == {**first, name: None}
    }
    return name, [others[seed] for seed in dict.fromkeys(str(each[1].get(name)) for each in found) if seed in others]


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
    words += [] if record.dataset.synthetic else ['data_root="FOLDER"']
    client = record.clients[0] if record.clients else ""
    return (
        "import robustbench_med as rbmed\n\n"
        f"defense = rbmed.load_defense({', '.join(words)})\n"
        f"system = defense.pipeline({_text(client)})"
    )


def _text(value: str) -> str:
    """A string of Python, whatever it holds."""
    return json.dumps(value)
