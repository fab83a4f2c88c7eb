"""What a plugin offers: descriptions whose targets are imported on first use.

Listing, filtering and planning read specs only. Reading those of all installed plugins takes milliseconds and does not
import torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import pluggy

#: As components are called, on the command line and in records.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: Marks a function of a plugin module as one of the hooks in `robustbench_med.plugins.hookspecs`.
hookimpl = pluggy.HookimplMarker("rbmed")

#: Version of the hooks and base classes, raised when a plugin written for an older one would no longer work. A plugin
#: module declares the one it was written for: ``RBMED_INTERFACE = 2``.
INTERFACE = 2

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
#: Threat models that are no ball around the image but a family of changes, whose eps says how far its parameters may
#: go: image corruptions (a severity from 1 to 5), and artefacts of an acquisition (a share of stated physical limits).
Family = Literal["corruption", "acquisition"]
FAMILIES: tuple[Family, ...] = ("corruption", "acquisition")
#: Rungs of the access ladder: what the adversary sees, cheapest first.
ACCESS = ("oblivious", "transfer", "insider", "boundary", "bpda", "gate", "full", "query")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One component that a plugin offers.

    Attributes:
        name: lower case, unique within its kind (``distribution/name`` resolves a clash).
        target: ``package.module:Class``, imported on first use.
        summary: one line, shown by ``rbmed list``.
        title: its name for people, on pages and in charts: ``JPEG compression``; by default ``name``.
        paper: title of the paper that it is published in.
        venue: where that appeared, and when: ``ICLR 2018``.
        reference: the paper or page to cite.
        revision: raised whenever the same parameters would give other numbers; part of the cell id.
        names: the package, or a folder of it as ``timm/models``, whose source defines what the first parameter names.
            What occurs nowhere in it is refused before the package, which may be large, is imported.
    """

    #: By the name of the class: ``attack`` of `AttackSpec`.
    kind: ClassVar[str] = ""
    #: Class that targets of this kind derive from, as ``module:Class``.
    base: ClassVar[str] = ""
    name: str
    target: str
    summary: str
    title: str = ""
    paper: str = ""
    venue: str = ""
    reference: str = ""
    revision: int = 1
    names: str = ""

    def __init_subclass__(cls) -> None:
        if Spec in cls.__bases__:  # a plugin's own class of specs is of the same kind
            kind = cls.__name__.removesuffix("Spec")
            cls.kind, cls.base = kind.lower(), f"robustbench_med:{kind}"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"spec name {self.name!r} must match {NAME.pattern}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"target {self.target!r} of spec {self.name!r} must look like 'package.module:Class'")


@dataclass(frozen=True, kw_only=True)
class AttackSpec(Spec):
    """An attack: the norms it is defined for and the access to the model that it needs.

    ``access`` is ``gradient``, ``scores``, ``decision`` or ``none`` (a control that does not query the model).
    """

    norms: tuple[Norm | Family, ...] = ("linf", "l2")
    access: Literal["gradient", "scores", "decision", "none"] = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := set(self.norms) - {*NORMS, *FAMILIES}:
            valid = ", ".join((*NORMS, *FAMILIES))
            raise ValueError(f"attack {self.name!r}: unknown norms {sorted(unknown)}; valid: {valid}")


@dataclass(frozen=True, kw_only=True)
class DetectorSpec(Spec):
    """A detector: gives each image a score, larger meaning more suspicious."""


@dataclass(frozen=True, kw_only=True)
class PurifierSpec(Spec):
    """A purifier: maps suspicious images back towards clean ones."""


@dataclass(frozen=True, kw_only=True)
class StrategySpec(Spec):
    """A way to train one classifier over several clients."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A data set.

    ``needs_root``: the user supplies the images, in a folder; ``root_files``: suffixes of files that may be given in
    place of a folder. ``finder`` is ``package.module:function``, called as ``function(place, params)`` before anything
    large is imported: it raises `DataError` where nothing there can be read, and returns the names of the clients, or
    None where more has to be read to tell them. ``sites`` are the clients of a data set that brings its images.
    ``findings``: an image may have several labels, so that ``--finding`` may name one of them.
    """

    licence: str = ""
    synthetic: bool = False
    needs_root: bool = False
    root_files: tuple[str, ...] = ()
    finder: str = ""
    sites: tuple[str, ...] = ()
    findings: bool = True


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A classifier architecture."""


@dataclass(frozen=True, kw_only=True)
class DefenseSpec(Spec):
    """A recipe that names a model, a strategy and, optionally, a detector and a purifier.

    ``weights`` is ``package:folder``, the trained parts that ship with the plugin, if any. ``reproduction`` is
    ``package:file``, the published table and how to measure it again (`robustbench_med.reproduction.published`), if
    any. ``bare`` says that it adds nothing to the classifier but the parts that its user names: its rows are called
    after these parts and the training. ``variants`` says how parameters read in a name, as pairs of ``key=value`` and
    words, empty for what is left out: ``("ablation=no-detector", "without detector")``.
    """

    weights: str = ""
    reproduction: str = ""
    bare: bool = False
    variants: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """Figures computed from the outcome of a cell."""


@dataclass(frozen=True, kw_only=True)
class ReportSpec(Spec):
    """A way to show records."""


#: In the order in which kinds are listed.
SPEC_TYPES: tuple[type[Spec], ...] = tuple(Spec.__subclasses__())
KINDS: tuple[str, ...] = tuple(spec.kind for spec in SPEC_TYPES)
