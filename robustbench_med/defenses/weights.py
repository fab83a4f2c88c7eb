"""Finds the weights of a defense: named, trained here, or shipped with its plugin."""

from __future__ import annotations

import importlib.resources
import warnings
from contextlib import suppress
from pathlib import Path

from robustbench_med.defenses.artifact import MANIFEST, Artifact, digest_of, read_manifest
from robustbench_med.defenses.resolved import ResolvedDefense, key_of
from robustbench_med.errors import StoreWarning, WeightsError
from robustbench_med.files.paths import home
from robustbench_med.interfaces.dataset import DataCard


def artifact_folder(resolved: ResolvedDefense, card: DataCard, seed: int) -> Path:
    """Where `rbmed train` puts this defense, trained on this data set with this seed."""
    return home() / "artifacts" / f"{_stem(resolved, card)}-{key_of(resolved.training_keys(card))}-{seed}"


def find_artifact(
    resolved: ResolvedDefense,
    card: DataCard,
    explicit: Path | None = None,
    seed: int | None = None,
    command: str = "rbmed train",
) -> Artifact:
    """The trained parts as `search` finds them; ``command`` is what would train them, for the error.

    Raises:
        WeightsError: there are none, or they were trained with other parameters, on other data or with another seed.
    """
    artifact, differs = search(resolved, card, explicit, seed)
    if artifact is not None:
        return artifact
    name = resolved.entry.spec.name
    train = f"train them with `{command}`, or let `rbmed run --train` do it"
    if differs:
        where = f"weights {explicit}" if explicit else f"the available weights for {name!r} on {card.name!r}"
        raise WeightsError(
            f"{where} were trained with other parameters, data or seed ({', '.join(sorted(differs))}); {train}"
        )
    raise WeightsError(f"no trained weights for defense {name!r} on data set {card.name!r}; {train}")


def search(
    resolved: ResolvedDefense,
    card: DataCard,
    explicit: Path | None = None,
    seed: int | None = None,
    remake: bool = False,
) -> tuple[Artifact | None, set[str]]:
    """The trained parts: ``explicit``, else trained here (the newest first), else shipped with the plugin.

    Args:
        resolved: the defense.
        card: of the data set it was trained on.
        explicit: a folder of weights, the only one to look at.
        seed: the seed they were trained with; None takes any.
        remake: pass over damaged folders, with a warning, as they will be trained anew.

    Returns:
        The artifact or None, and in what those that do not fit differ.

    Raises:
        WeightsError: a folder is unreadable, or what would fit is corrupt.
    """
    wanted = resolved.training_keys(card)
    differs: set[str] = set()
    for folder in [explicit] if explicit else _candidates(resolved, card):
        try:
            manifest = read_manifest(folder)
            keys = manifest.get("training_keys", {})
            other = {part for part, key in wanted.items() if keys.get(part) != key}
            if not other and seed is not None and manifest.get("seed") != seed:
                other = {f"seed {manifest.get('seed')} instead of {seed}"}
            if not other:
                return Artifact(folder), set()  # reads every file, so only now
        except WeightsError as error:
            if not remake:
                raise
            _passed_over(error)
            continue
        differs |= other
    return None, differs


def with_digest(resolved: ResolvedDefense, card: DataCard, digest: str) -> Path | None:
    """The folder of the weights that have this digest: of the defense, of others on the data set, from the hub.

    Trainings on data that differ in calibration or test images only make the same weights: the folder of this very
    training comes first, since the others are refused later.
    """
    wanted = resolved.training_keys(card)
    found: list[tuple[bool, Path]] = []
    places = [*(home() / "artifacts").glob(f"*-{card.name}-*/{MANIFEST}"), *_shipped(resolved, f"*-{card.name}")]
    places += (home() / "hub").glob(f"*/*/{MANIFEST}")
    for folder in dict.fromkeys([*_candidates(resolved, card), *(path.parent for path in sorted(places))]):
        with suppress(WeightsError):
            manifest = read_manifest(folder)
            if digest_of(manifest["files"]) == digest:
                keys = manifest.get("training_keys", {})
                found.append((any(keys.get(part) != key for part, key in wanted.items()), folder))
    return min(found, key=lambda each: each[0])[1] if found else None


def seeds_of(resolved: ResolvedDefense, card: DataCard) -> list[int]:
    """Seeds with which a part of the defense has been trained, for whatever defense; the newest first."""
    wanted = resolved.training_keys(card)
    found: dict[int, float] = {}
    for name, key in wanted.items():
        for folder in (home() / "parts").glob(f"{name}-{key}-*"):
            number = folder.name.rpartition("-")[2]
            if number.isdecimal():
                found[int(number)] = max(found.get(int(number), 0.0), folder.stat().st_mtime)
    for folder in _holders(resolved, card):
        with suppress(WeightsError):
            manifest = read_manifest(folder)
            keys, seed = manifest.get("training_keys", {}), manifest.get("seed")
            if isinstance(seed, int) and any(keys.get(name) == key for name, key in wanted.items()):
                found.setdefault(seed, 0.0)
    return sorted(found, key=lambda each: -found[each])


def with_part(resolved: ResolvedDefense, card: DataCard, name: str, key: str, seed: int) -> Artifact | None:
    """Weights that hold one part as it is wanted, whatever the other parts are, and of whatever defense."""
    for folder in _holders(resolved, card):
        try:
            manifest = read_manifest(folder)
            if manifest.get("training_keys", {}).get(name) == key and manifest.get("seed") == seed:
                return Artifact(folder)
        except WeightsError as error:  # other weights may hold the part, and it can be trained
            _passed_over(error)
    return None


def _holders(resolved: ResolvedDefense, card: DataCard) -> list[Path]:
    """Folders of weights of any defense that may hold a part of this one."""
    places = [*(home() / "artifacts").glob(f"*/{MANIFEST}"), *_shipped(resolved, f"*-{card.name}")]
    return sorted(path.parent for path in places)


def _passed_over(error: WeightsError) -> None:
    reason = str(error).partition(";")[0]  # what follows is what to do, and that is being done
    warnings.warn(f"passed over: {reason}", StoreWarning, stacklevel=3)


def _stem(resolved: ResolvedDefense, card: DataCard) -> str:
    return f"{resolved.entry.spec.name}-{card.name}"


def _candidates(resolved: ResolvedDefense, card: DataCard) -> list[Path]:
    """Folders that may hold the weights."""
    stem = _stem(resolved, card)
    found = [manifest.parent for manifest in (home() / "artifacts").glob(f"{stem}-*/{MANIFEST}")]
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    return found + [path.parent for path in _shipped(resolved, stem)]


def _shipped(resolved: ResolvedDefense, stem: str) -> list[Path]:
    """Manifests of the weights that ship with the defense's package; ``stem`` may be a pattern.

    Weights of further variants, such as other trainings, lie beside the first ones in folders ``STEM-VARIANT``.
    """
    weights: str = getattr(resolved.entry.spec, "weights", "")
    package, _, name = weights.partition(":")
    if not weights:
        return []
    folder = Path(str(importlib.resources.files(package))) / name
    return [path for pattern in (stem, f"{stem}-*") for path in sorted(folder.glob(f"{pattern}/{MANIFEST}"))]
