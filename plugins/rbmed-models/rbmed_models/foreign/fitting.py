"""Finds the state in a file of weights that fits a module: however deep it lies, and whatever its names begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rbmed_models.foreign.checkpoint import EXPORT, load
from robustbench_med.errors import WeightsError

State = Mapping[str, Tensor]
#: Parts of names that wrappers insert anywhere.
WRAPPERS = ("module", "_orig_mod")
#: Mappings in mappings of a file that are looked into.
DEEPEST = 10
#: States of these names are averages or copies of the one that was trained; they are taken only if named or alone.
COPIES = ("ema", "teacher", "momentum", "swa", "target", "best")


@dataclass
class Match:
    """How a state compares with a module.

    Attributes:
        state: the entries that fit, by the module's names.
        prefix: what was taken off the file's names.
        missing, unexpected: names that only the module has, or only the state, under the prefix.
        shapes: entries of another shape.
        channels: those of the images that the state was trained on, where only these differ; else 0.
        outside: names of the state that are not under the prefix.
    """

    state: dict[str, Tensor]
    prefix: str = ""
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    channels: int = 0
    outside: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many entries are missing, left over or of another shape."""
        return len(self.missing) + len(self.unexpected) + len(self.shapes)


def fill(body: nn.Module, file: Path, wanted: str = "", ignored: tuple[str, ...] = ()) -> list[str]:
    """Fill a module with the state in a file; return what is to be said about it.

    Args:
        body: the module.
        file: the weights.
        wanted: which state of the file, by its key; empty: the one that fits.
        ignored: beginnings of names that the module does without.

    Raises:
        WeightsError: the file cannot be read, or no state in it fits.
    """
    loaded = load(file)
    found = dict(_states(loaded))
    if not found:
        raise WeightsError(f"weights {file} contain a {type(loaded).__name__}, not the state of a model; {EXPORT}")
    if wanted and wanted not in found:
        raise WeightsError(f"weights {file} have no state {wanted!r}; they have {', '.join(found)}")
    compared = {name: _best(body, state, ignored) for name, state in found.items() if not wanted or name == wanted}
    fitting = sorted(
        (_copy(name, match.prefix), at, name) for at, (name, match) in enumerate(compared.items()) if not match.faults
    )
    if not fitting:
        name = min(compared, key=lambda each: compared[each].faults)
        raise WeightsError(f"weights {file} do not fit {type(body).__name__}: {_reason(compared[name])}")
    name = fitting[0][2]
    match = compared[name]
    for key, value in match.state.items():
        if value.is_quantized:
            raise WeightsError(f"weights {file} are quantized ({key}); export those of the model before quantization")
        if value.is_floating_point() and not value.isfinite().all():
            raise WeightsError(f"weights {file} hold values that are not finite (NaN or infinite) in {key}")
    body.load_state_dict(match.state, strict=False)
    notes = [f"{match.prefix!r} taken off the names in {file.name}"] if match.prefix else []
    if match.outside:
        notes.append(f"{len(match.outside)} other entries of {file.name} left out, such as {match.outside[0]}")
    others = [other for *_, other in fitting[1:]]
    if others:
        notes.append(f"state {name or 'at the top'} of {file.name}; state={others[0]} takes another")
    return notes


def _copy(*names: str) -> bool:
    return any(word in part.lower() for name in names for part in name.split(".") for word in COPIES)


def _states(loaded: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """The states in a file by the keys under which they lie; those of optimizers left out."""
    if not isinstance(loaded, Mapping) or depth > DEEPEST:
        return
    tensors = {key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in loaded.items():
        if isinstance(key, str) and not any(word in key.lower() for word in ("optim", "sched", "scaler")):
            yield from _states(value, f"{path}.{key}" if path else key, depth + 1)


def _best(body: nn.Module, state: State, ignored: tuple[str, ...]) -> Match:
    """The way to read the names of a state with the fewest faults; the plainest of equal ones."""
    need = body.state_dict()
    optional = {name for name, _ in body.named_buffers()} - set(need)  # buffers that are computed, not stored
    best: Match | None = None
    for renamed in _namings(state, need):
        for prefix, inner in _prefixes(renamed, need):
            match = _compare(renamed, need, prefix, inner, optional, ignored)
            if best is None or (match.faults, _copy(match.prefix)) < (best.faults, _copy(best.prefix)):
                best = match
    assert best is not None
    return best


def _namings(state: State, need: State) -> Iterator[State]:
    """The state under its names, and without what wrappers have inserted into them."""
    yield state
    inserted = [word for word in WRAPPERS if not any(word in name.split(".") for name in need)]
    bare: Callable[[str], str] = lambda name: ".".join(part for part in name.split(".") if part not in inserted)  # noqa: E731
    renamed = {bare(name): value for name, value in state.items()}
    if len(renamed) == len(state) and renamed.keys() != state.keys():
        yield renamed


def _prefixes(state: State, need: State) -> Iterator[tuple[str, str]]:
    """Beginnings that the file's names may have besides the module's, and the module's besides the file's."""
    yield "", ""
    inner = [""]
    while (parts := {name[len(inner[-1]) :].partition(".")[0] for name in need}) and len(parts) == 1:
        deeper = f"{inner[-1]}{parts.pop()}."
        if not all(name.startswith(deeper) for name in need):
            break
        inner.append(deeper)
    for start in inner:
        anchor = max((name[len(start) :] for name in need), key=len, default="")
        ends = [name[: -len(anchor)] for name in state if anchor and name.endswith(anchor)]
        yield from ((prefix, start) for prefix in ends if prefix.endswith(".") or (start and not prefix))


def _compare(state: State, need: State, prefix: str, inner: str, optional: set[str], ignored: tuple[str, ...]) -> Match:
    mine = {f"{inner}{name[len(prefix) :]}": value for name, value in state.items() if name.startswith(prefix)}
    match = Match({}, prefix, outside=[name for name in state if not name.startswith(prefix)])
    for name, value in need.items():
        if name not in mine:
            if not name.endswith("num_batches_tracked"):  # a count that evaluation does not use; old files lack it
                match.missing.append(name)
        elif mine[name].shape != value.shape:
            match.shapes.append(
                f"{name} has shape {tuple(mine[name].shape)} in the file and {tuple(value.shape)} in the model"
            )
            theirs, ours = list(mine[name].shape), list(value.shape)
            if len(ours) == len(theirs) == 4 and theirs[1] in (1, 3) and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]:
                match.channels = theirs[1]
        else:
            match.state[name] = mine[name]
    match.unexpected = [
        name for name in mine if name not in need and name not in optional and not name.startswith(ignored or ("\0",))
    ]
    return match


def _reason(match: Match) -> str:
    """What does not fit, in a few words."""
    parts = []
    for what, names in (("missing", match.missing), ("unexpected", match.unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{what} {', '.join(names[:3])}{more}")
    parts += match.shapes[:2]
    if match.channels:
        parts.append(f"if it was trained on images of {match.channels} channels: channels={match.channels}")
    elif match.shapes and not (match.missing or match.unexpected) and len(match.shapes) <= 2:
        parts.append("if it answers for other classes, name all of them in their order: classes=[...]")
    return "; ".join(parts)
