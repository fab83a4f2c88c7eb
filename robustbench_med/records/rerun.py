"""What asks for a record's cell again: as options, and as a command to copy.

Needs no torch and no plugin, so that pages and tables can show commands.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.plugins.references import PartRef, format_eps, format_ref, fraction
from robustbench_med.records.record import Record

#: The options that a record keeps as they were asked.
REPEATED = {"dataset", "partition", "unseen_site", "client", "model", "strategy", "adversarial", "malicious", "engine",
            "train_seed", "access", "attack", "evasion", "stand_in", "surrogate", "eot", "precision"}  # fmt: skip


def request(record: Record) -> dict[str, Any]:
    """The options of ``rbmed run`` that ask for a record's cell; of a claim or a probe also its other, made small.

    Raises:
        BadConfig: the record does not say what was asked.
    """
    data: dict[str, Any] | None = record.dataset.get("asked")
    attack: dict[str, Any] | None = record.attack.get("asked")
    if data is None or attack is None:
        raise BadConfig(f"record {record.cell_id} does not say what was asked: it was written before records did")
    trained = {name.replace("-", "_"): text for name, text in record.defense.get("asked", {}).items()}
    options: dict[str, Any] = {**data, **trained, **record.defense.get("replaced", {}), **attack}
    if strange := sorted(set(options) - REPEATED):  # a stranger's record must not train, or run something else
        raise BadConfig(f"record {record.cell_id} asks for {strange[0]!r}, which is no part of a cell")
    own: dict[str, Any] = {
        "defense": {"name": record.defense["name"], **record.defense["params_passed"]},
        "baseline": "",
        **{name: record.threat[name] for name in ("norm", "eps", "goal") if name in record.threat},
        **{f"max_{name}": value for name, value in record.budget.items()},
        "limit": record.limit,
        "seed": record.seed,
        "draws": record.draws,
        "diagnostics": record.diagnostics.get("level", "off") if record.status == "ok" else "off",
    }
    options |= own
    ladder = attack.get("access") == "ladder"
    if record.role != "cell":
        options["access"] = None
    if record.role == "claim":
        options["probe_limit"] = 1
    elif record.role == "probe":
        options |= {"probe_limit": record.limit, "attack": None}
    elif ladder:
        options["access"] = f"ladder:{record.attack['params_passed'].get('preset')}"
        options["attack"] = record.attack["params_passed"].get("attack")
    return {name: value for name, value in options.items() if value not in (None, [])}


def command(record: Record) -> str:
    """The command that measures a record's cell again, weights included, on one line for a shell.

    ``probe_limit`` is no option of the command line: a claim is asked for as ``--access oblivious``, a probe as the
    ladder it is.

    Raises:
        BadConfig: the record does not say what was asked.
    """
    options = request(record)
    if "probe_limit" in options:
        del options["probe_limit"]
        options["access"] = "oblivious" if record.role == "claim" else "ladder:quick"
    words = ["rbmed", "run", "--train"]
    for name, value in options.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{name.replace('_', '-')}", _word(name, item)]
    return shlex.join([*words, "--out", f"results/{record.cell_id}"])


def _word(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return format_ref(PartRef(value["name"], {key: item for key, item in value.items() if key != "name"}))
    if name == "eps":
        text = format_eps(value)
        return text if fraction(text) == value else repr(value)
    return str(value)
