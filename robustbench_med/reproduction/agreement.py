"""Whether a record agrees with its cell measured again: images, figures on other hardware, and what is other here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from robustbench_med.errors import DataError
from robustbench_med.files.provenance import provenance
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.compact_labels import text_of
from robustbench_med.leaderboard.sources.image_results import ImageResults, differences
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.records import compare
from robustbench_med.records.record import Record
from robustbench_med.records.sections.provenance import ProvenanceSection

#: How far figures that are no shares may lie apart where the hardware is another: AUROC, and sizes of changes.
APART = 0.1
#: What must agree before figures on a CPU must be identical.
ENVIRONMENT = (
    *("device", "versions.python", "versions.torch", "versions.numpy", "hardware.machine"),
    *("hardware.processor", "hardware.instructions", "hardware.threads"),
)


def elsewhere(record: Record, device: torch.device) -> list[str]:
    """In what this machine is not that of the record; empty on a CPU where figures must be identical."""
    flat = compare.flat(record, ("provenance",))
    here = compare.flat(
        record.model_copy(update={"provenance": ProvenanceSection(**provenance(device))}), ("provenance",)
    )
    found = [
        f"{name}: {flat.get(f'provenance.{name}')} -> {here.get(f'provenance.{name}')}"
        for name in ENVIRONMENT
        if flat.get(f"provenance.{name}") != here.get(f"provenance.{name}")
    ]
    return found or ([f"device: {device} is not bound to repeat itself"] if device.type != "cpu" else [])


def other_images(record: Record, samples: Path | None, images: ImageResults | None, made: Path) -> list[str]:
    """In what the results of images differ from those that were kept; empty where they do not, or none were kept."""
    found = []
    if not made.is_file():
        return []
    if images is not None:
        found += differences(images, from_samples(made))
    kept = samples / f"{record.cell_id}.parquet" if samples else None
    if kept is None or not kept.is_file():
        return found
    try:
        before = pd.read_parquet(kept)
        found += differences(from_samples(kept), from_samples(made))
    except (OSError, ValueError) as error:  # pyarrow's errors are these
        return [f"per-image results {kept.name} cannot be read ({' '.join(str(error).split())[:200]})"]
    except DataError as error:
        return [str(error)]
    after = pd.read_parquet(made)
    columns = [column for column in after.columns if column in before.columns]  # older ones have fewer
    if found or len(before) != len(after):
        return found or ["per-image results are of other images"]
    before, after = before[columns], after[columns]
    equal = (before == after) | (before.isna() & after.isna())
    rows = (~equal.all(axis=1)).to_numpy()
    if rows.any():
        found.append(f"{before['index'][rows].nunique()} of {plural(before['index'].nunique(), 'image')} differ")
    return found


def unrepeatable(one: tuple[Record, Path], two: tuple[Record, Path]) -> list[str]:
    """A note if a cell that was measured here twice has two results, so that no record of it can be shown to be right.

    Both are given with the file of the results of their images.
    """
    (first, made), (second, other) = one, two
    found = [*other_images(first, made.parent, None, other), *compare.changed(first, second)]
    if not found:
        return []
    return [
        f"not repeatable: measured here twice with the same seed, it has two results ({found[0]}): a part draws random "
        f"numbers that the seed does not decide; rbmed check KIND/NAME tells of each, as of attack/{first.attack.name}"
    ]


def close(record: Record, again: Record, images: ImageResults | None, made: Path) -> bool:
    """Whether a record may be right although figures differ, as they do on other hardware.

    Everything that was requested must be the same, and the images, their labels and the number of noise draws; so must
    the rungs that were run, and no flag may be missing that is raised here. Shares must lie in the intervals of the
    cell that was measured again, which the record has no say in.
    """
    unlike = compare.unlike(record, again)
    fixed = set(compare.ASKED) | {"status", "role", "cell_id", "clients", "n", "patients", "client_images", "reason"}
    if any(name.partition(".")[0] in fixed for name in unlike):
        return False
    if images is not None:
        other = from_samples(made)
        if images.index != other.index or text_of(images.labels) != text_of(other.labels):
            return False
        if images.clean.shape != other.clean.shape or images.attacked.shape != other.attacked.shape:
            return False
    if record.metrics.keys() != again.metrics.keys() and record.patients is not None:
        return False
    if not set(again.diagnostics.flags) <= set(record.diagnostics.flags):
        return False
    one, two = ([(rung.rung, bool(rung.reason)) for rung in each.rungs] for each in (record, again))
    if one != two:
        return False
    figures = {name: (value, again.metrics.get(name)) for name, value in record.metrics.items()}
    shares = again.intervals
    return not compare.outside(again, record, figures.keys()) and all(
        one is two or (one is not None and two is not None and abs(one - two) <= APART)
        for name, (one, two) in figures.items()
        if name not in shares
    )
