"""The options and the command that request a record's cell again.

Needs no torch and no plugin, so that pages and tables can show commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.files.escaping import shell_command
from robustbench_med.plugins.references import PartRef, format_eps, format_ref, fraction
from robustbench_med.plugins.specs import FAMILIES
from robustbench_med.records.record import Record

#: The options that a record keeps as they were given.
REPEATED = {
    *("dataset", "partition", "unseen_site", "client"),
    *("model", "strategy", "adversarial", "malicious", "engine", "train_seed"),
    *("access", "attack", "evasion", "stand_in", "surrogate", "eot", "precision"),
    *("tf32", "score_8bit", "score_fixed_noise", "calibrated_thresholds"),
}


def request(record: Record) -> dict[str, Any]:
    """The options of ``rbmed run`` that request a record's cell.

    Claim and probe are requested together: the one that is not of this record is made as small as possible.

    Raises:
        BadConfig: the record does not hold the options.
    """
    defense, attack, data, asked = record.defense, record.attack, record.dataset.asked, record.attack.asked
    if data is None or asked is None:
        raise BadConfig(f"record {record.cell_id} does not hold the options of its run: older formats lack them")
    trained = {name.replace("-", "_"): text for name, text in defense.asked.items()}
    options: dict[str, Any] = {**data.model_dump(), **trained, **defense.replaced, **asked.model_dump()}
    if strange := sorted(set(options) - REPEATED):  # a third party's record must not train, or run something else
        raise BadConfig(f"record {record.cell_id} has the option {strange[0]!r}, which is not one of a cell")
    options |= {
        "defense": {"name": defense.name, **defense.params_passed},
        "baseline": "",
        "norm": record.threat.norm,
        "eps": record.threat.eps,
        "goal": record.threat.goal,
        "finding": record.threat.finding or None,
        **{f"max_{name}": most for name, most in record.budget.limits.items()},
        "limit": record.limit,
        "seed": record.seed,
        "draws": record.draws,
        "diagnostics": record.diagnostics.level if record.status == "ok" else "off",
    }
    if (certified := record.certified) is not None:
        options |= {"certify": True, "n0": certified.n0, "n": certified.n, "alpha": certified.alpha}
    if record.role != "cell":
        options["access"] = None
    if record.role == "claim":
        options["probe_limit"] = 1
    elif record.role == "probe":
        options |= {"probe_limit": record.limit, "attack": None}
    elif asked.access == "ladder":
        if not attack.preset:
            raise BadConfig(f"record {record.cell_id} has attacks that are those of no ladder")
        options |= {"access": f"ladder:{attack.preset}", "attack": attack.named or None}
    if record.threat.norm in FAMILIES:  # the attack says so itself
        options |= {"norm": None, "eps": None}
    return {name: value for name, value in options.items() if value not in (None, [])}


def command(record: Record, weights: str = "") -> str:
    """The command that measures a record's cell again, on one line for a shell.

    With ``weights``, such as ``hf:OWNER/NAME@REVISION``, or those of the hub that the record names; else it trains.

    ``probe_limit`` is not an option of the command line: a claim is requested with ``--access oblivious``, a probe as a
    ladder.

    Raises:
        BadConfig: the record does not hold the options.
    """
    options = request(record)
    if "probe_limit" in options:
        del options["probe_limit"]
        options["access"] = "oblivious" if record.role == "claim" else "ladder:quick"
    return written(options, f"results/{record.cell_id}", weights or record.defense.weights.source)


def written(options: Mapping[str, Any], out: str, weights: str = "") -> str:
    """Options of ``rbmed run`` as a command, training included where no weights are named; a list item by item."""
    words = ["rbmed", "run", *(("--weights", weights) if weights else ("--train",))]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{name.replace('_', '-')}", _word(name, item)]
    return shell_command([*words, "--out", out])


def _word(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return format_ref(PartRef(value["name"], {key: item for key, item in value.items() if key != "name"}))
    if name == "eps":
        text = format_eps(value)
        return text if fraction(text) == value else repr(value)
    return str(value)
