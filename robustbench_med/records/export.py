"""Records as files for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import replacing
from robustbench_med.records.record import Record
from robustbench_med.records.table import to_csv, to_frame


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """The table of the records, with digests, commit, device and time of each."""
    more = pd.DataFrame(
        {
            "dataset_digest": [record.dataset.digest for record in records],
            "weights_digest": [record.defense.weights.digest for record in records],
            "limit": [record.limit for record in records],
            "draws": [record.draws for record in records],
            "eot": [record.eot for record in records],
            "commit": [record.provenance.commit for record in records],
            "device": [record.provenance.device or None for record in records],
            "created": [record.created for record in records],
        }
    )
    table = to_frame(records)
    return pd.concat([table, more[[name for name in more if name not in table]]], axis=1)


def exported(records: Sequence[Record], form: str) -> str:
    """The records as text: ``csv`` with a row per cell, or ``json``, an array of whole records."""
    if form == "csv":
        return to_csv(frame(records))
    return json.dumps([record.model_dump(mode="json") for record in records], indent=1, allow_nan=False) + "\n"


def write(records: Sequence[Record], form: str, target: Path) -> None:
    """Write them to a file, whole or not at all.

    Raises:
        BadParameter: ``target`` is a folder.
        StoreError: it cannot be written.
    """
    if target.is_dir():
        raise BadParameter(f"--out {target} is a folder; name a file")
    with replacing(target) as draft:
        if form == "parquet":
            frame(records).to_parquet(draft, index=False)
        else:
            draft.write_text(exported(records, form), encoding="utf-8")
