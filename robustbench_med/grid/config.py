"""The options of a run, each written once (`RunConfig`), and how a TOML file and a command line are read into them."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from robustbench_med.certification.settings import Certification
from robustbench_med.errors import BadConfig, BadParameter, UsageError, near, shortened
from robustbench_med.files.toml_file import locate, read
from robustbench_med.grid.data_options import of_data
from robustbench_med.grid.model_options import of_own_model
from robustbench_med.grid.options import (
    ATTACK,
    CERTIFICATE,
    COMPUTE,
    DATA,
    OUTPUT,
    SUBJECT,
    THREAT,
    TRAINING,
    AnyCase,
    AnyNorm,
    Evasion,
    Folder,
    Names,
    Patterns,
    Radii,
    Ref,
    Refs,
    Rungs,
    Seeds,
    Threats,
    TrainSeeds,
    leaves_here,
    option,
    refuse_flags,
)
from robustbench_med.interfaces.threat import Goal, ThreatModel
from robustbench_med.plugins.specs import Norm

if TYPE_CHECKING:
    import pydantic

#: Samples for which an image takes hours.
MOST_SAMPLES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run. Keys are the long options of ``rbmed run``; several values of one key make a grid.

    A component is a string, ``apgd:steps=20``, or a table, ``{name = "apgd", steps = 20}``.
    """

    defense: Refs = option(
        ("medfedpure",), SUBJECT, "Defense: NAME or NAME:key=value,...", kind="defense", min_length=1
    )
    baseline: Ref | None = option(
        "undefended", SUBJECT, "Defense that is shown next to the others; '' for none.", kind="defense"
    )
    dataset: Refs = option(("brainsim",), SUBJECT, "Data set.", kind="dataset", min_length=1)
    attack: Refs = option((), SUBJECT, "Attack.", empty="apgd; on a ladder those of its preset", kind="attack")
    seed: Seeds = option((0,), SUBJECT, "Seed of the evaluation.", min_length=1)
    include: Patterns = option((), SUBJECT, "Only cells that match: key=text,... such as attack=apgd*.")
    exclude: Patterns = option((), SUBJECT, "No cells that match: key=text,...")

    data_root: Folder | None = option(None, DATA, "Folder of your images.", empty="RBMED_DATA, or as registered")
    test_folder: Folder | None = option(
        None, DATA, "Folder of class folders with the test images (data sets imagefolder and dicom)."
    )
    download: bool = option(False, DATA, "Fetch the files of the data set that are missing (data set medmnist).")
    partition: Ref | None = option(
        None, DATA, "How patients are assigned to clients, such as iid:clients=10.", empty="by site"
    )
    unseen_site: Names = option(
        (), DATA, "Site kept out of training; these sites are evaluated, unless clients are named."
    )
    client: Names = option((), DATA, "Client to evaluate.", empty="all, or the unseen sites")
    each_client: bool = option(False, DATA, "One cell for each client, in place of one over all clients.")
    limit: int | None = option(
        None, DATA, "Evaluate at most this many test images, spread over the clients.", empty="all", ge=1
    )

    norm: Annotated[Norm, AnyNorm] = option("linf", THREAT, "linf, l2 or l1, in pixel space.")
    eps: Radii = option((4 / 255,), THREAT, "Radius of the ball; fractions such as 4/255 are accepted.", min_length=1)
    goal: Annotated[Goal, AnyCase] = option(
        "untargeted",
        THREAT,
        "untargeted, hide-lesion (images with a lesion), fake-lesion (images without); of grades also distant (more "
        "than one grade off) and farthest (the farther end).",
    )
    finding: Names = option((), THREAT, "Of a multi-label data set, the finding that is attacked.", empty="any of them")
    threat: Threats = option(
        (), THREAT, "In place of norm, eps, goal and finding: linf:4/255 or l2:eps=0.5,goal=hide-lesion."
    )
    calibrated_thresholds: bool = option(
        False, THREAT, "Of a multi-label data set: thresholds fixed on calibration images, in place of 0.5."
    )

    access: Rungs = option(
        (),
        ATTACK,
        "Rung of the access ladder: oblivious, transfer, insider, boundary, bpda, gate, full, query; or a whole "
        "ladder: ladder:quick, ladder:standard, ladder:full.",
        empty="oblivious on all images, and a quick ladder on a few",
    )
    surrogate: Ref = option(
        "undefended", ATTACK, "Defense whose classifier is attacked on the rung transfer.", kind="defense"
    )
    evasion: Evasion = option(
        "orthogonal", ATTACK, "How the rung gate evades the detector: orthogonal, selective or joint:WEIGHT."
    )
    stand_in: Annotated[Literal["identity", "blur"], AnyCase] = option(
        "identity", ATTACK, "What the rung bpda differentiates in place of the purifier: identity or blur."
    )
    max_gradients: int | None = option(
        None, ATTACK, "Gradients that an attack may compute for one image.", empty="no limit", ge=1
    )
    max_queries: int | None = option(
        None, ATTACK, "Forward passes that an attack may make for one image.", empty="no limit", ge=1
    )
    eot: int = option(4, ATTACK, "Noise draws averaged in each gradient, where the target model is random.", ge=1)
    draws: int = option(3, ATTACK, "Fresh noise draws each image is scored on, where the pipeline is random.", ge=1)
    diagnostics: Annotated[Literal["off", "cheap", "full"], AnyCase] = option(
        "cheap", ATTACK, "Checks of the attack itself: off, cheap (at most 15 % more time) or full."
    )
    score_8bit: bool = option(
        False, ATTACK, "Score adversarial images also when rounded to 8 bits, as a file holds them."
    )
    score_fixed_noise: bool = option(
        False, ATTACK, "Score also with one noise for all images, where the pipeline is random."
    )
    probe_limit: int = option(12, "", "Images of the default probe.", ge=1)

    certify: bool = option(
        False, CERTIFICATE, "Certify each image by randomized smoothing, and judge attacks by the smoothed answer."
    )
    n0: int = option(100, CERTIFICATE, "Noisy samples that choose the class of an image.", ge=1, le=MOST_SAMPLES)
    n: int = option(1000, CERTIFICATE, "Further samples that bound its probability.", ge=1, le=MOST_SAMPLES)
    alpha: float = option(
        0.001, CERTIFICATE, "Chance that the certificate of an image does not hold.", gt=0, lt=0.5, allow_inf_nan=False
    )

    model: Refs = option((), TRAINING, "Classifier, in place of the one in the recipe.", kind="model")
    strategy: Refs = option((), TRAINING, "Training strategy, in place of the one in the recipe.", kind="strategy")
    adversarial: Ref | None = option(None, TRAINING, "Adversarial training in the strategy, such as pgd:steps=5.")
    malicious: Ref | None = option(None, TRAINING, "Byzantine clients in the strategy, such as scaling:clients=1.")
    engine: Ref | None = option(
        None, TRAINING, "What runs the strategy's federation: inprocess, simulation or deployment."
    )
    weights: Folder | None = option(
        None,
        TRAINING,
        "Folder of weights of the only defense that is named, hf:OWNER/NAME@REVISION on the hub, or a file of the "
        "model's weights.",
    )
    train: bool = option(False, TRAINING, "Train the defenses that have no weights before the first cell.")
    train_seed: TrainSeeds = option(
        (), TRAINING, "Seed of the training whose weights are used.", empty="any, the newest weights first"
    )

    device: Annotated[str, AnyCase] = option("auto", COMPUTE, "auto, cpu, cuda or cuda:i.")
    batch_size: Annotated[str | int, AnyCase] = option("auto", COMPUTE, "Images per chunk: auto or a number.")
    executor: Ref = option(
        "local", COMPUTE, "What runs the cells: local, local:workers=2, ray:workers=2 or slurm:tasks=4."
    )
    time_limit: float | None = option(
        None, COMPUTE, "Seconds after which a cell is stopped and fails.", empty="none", gt=0, allow_inf_nan=False
    )
    shards: int = option(
        1,
        COMPUTE,
        "Parts into which the chunks of a cell are divided, for the workers of an executor.",
        ge=1,
        le=10_000,
    )
    precision: Annotated[Literal["float32", "bf16", "fp16"], AnyCase] = option(
        "float32", COMPUTE, "Of the attack: float32, bf16 or fp16; its results are confirmed in float32."
    )
    tf32: bool = option(
        False, COMPUTE, "Let CUDA round float32 to TF32, in scoring too: faster, less exact, and recorded."
    )
    compile: bool = option(False, COMPUTE, "Let torch compile the models that are attacked.")
    channels_last: bool = option(True, COMPUTE, "Memory layout of the models that are attacked.", off="channels-first")
    prefetch: bool = option(False, COMPUTE, "Copy the next images to the GPU while others are processed.")
    share: bool = option(
        True, COMPUTE, "Reuse clean predictions and transferred images of earlier cells.", off="no-share"
    )

    out: Folder = option(Path("results"), OUTPUT, "Folder for records and samples.")
    again: bool = option(False, OUTPUT, "Measure cells again that have a record in the folder.")

    @property
    def extras(self) -> dict[str, bool]:
        """What was switched on of the options that change or add figures; a record without it says nothing of them."""
        names = ("tf32", "score_8bit", "score_fixed_noise", "calibrated_thresholds")
        return {name: True for name in names if getattr(self, name)}

    @property
    def certification(self) -> Certification | None:
        """How much is drawn for certificates; None where none are made."""
        return Certification(self.n0, self.n, self.alpha) if self.certify else None

    @property
    def threats(self) -> tuple[ThreatModel, ...]:
        """The balls, whichever way they were given."""
        return self.threat or tuple(
            ThreatModel(self.norm, eps, goal=self.goal, finding=finding)
            for finding in self.finding or ("",)
            for eps in self.eps
        )


#: Every option by its key, with the metadata of `option`.
OPTIONS = {each.name: each for each in fields(RunConfig)}
#: The attacks of a run that names none.
DEFAULT_ATTACKS = ("apgd",)
#: Options that an empty text switches off, such as one in the file by one on the command line.
OPTIONAL = ("baseline", "partition", "adversarial", "malicious", "engine")


def _check_out(out: Any, file: Path) -> None:
    """Refuse a file, which may be someone else's, that would have results written outside the current folder."""
    if isinstance(out, str) and leaves_here(out):
        raise BadConfig(
            f"configuration {file} names a folder outside the current one: out = {out!r}; name it with --out FOLDER"
        )


@functools.cache
def _validator() -> pydantic.TypeAdapter[RunConfig]:
    import pydantic

    return pydantic.TypeAdapter(RunConfig)


def build(options: dict[str, Any], file: Path | None = None, defaults: Mapping[str, Any] | None = None) -> RunConfig:
    """A `RunConfig` from the options that were given, over those of a TOML file or of a named one, over ``defaults``.

    Raises:
        BadConfig: the file is missing, not a file, too large or not TOML.
        BadParameter: a key is unknown or a value does not fit.
    """
    import pydantic

    file = None if file is None else locate(file)
    values: dict[str, Any] = {} if file is None else read(file)
    if file is not None and options.get("out") is None:
        _check_out(values.get("out"), file)
    values |= {name: value for name, value in options.items() if value is not None and value != []}
    values |= {name: None for name in OPTIONAL if values.get(name) == ""}
    # A threat replaces both.
    named = {*values, *(("norm", "eps") if values.get("threat") else ())}
    values |= {name: value for name, value in (defaults or {}).items() if name not in named}

    def origin(key: str) -> str:
        return "on the command line" if file is None or options.get(key) not in (None, []) else f"in {file}"

    for key in [key for key in values if key not in OPTIONS]:
        raise BadParameter(f"unknown key {key!r} {origin(key)}{near(key, OPTIONS)} valid: {', '.join(OPTIONS)}")
    if values.get("threat") and (both := values.keys() & {"norm", "eps", "goal", "finding"}):
        raise BadParameter(
            f"--threat {reprlib.repr(values['threat'])} {origin('threat')} cannot be combined with "
            f"{', '.join(sorted(both))}; give --threat alone, or the others without it"
        )
    if not values.get("certify") and (idle := [name for name in ("n0", "n", "alpha") if name in values]):
        raise BadParameter(
            f"--{idle[0]} {reprlib.repr(values[idle[0]])} {origin(idle[0])} is of certificates; add --certify, or use "
            "`rbmed certify`"
        )
    refuse_flags(values, [name for name, each in OPTIONS.items() if each.type == "bool"], origin)
    values = of_data(of_own_model(values), RunConfig.dataset)
    try:
        made = _validator().validate_python(values)
        try:
            _ = made.threats
        except UsageError as error:  # norm, eps and goal do not fit together
            raise BadParameter(f"--eps {origin('eps')}: {error}") from None
        if made.certify and made.n0 > made.n:
            raise BadParameter(
                f"--n0 {made.n0} {origin('n0')} is more than --n {made.n}: n0 samples choose the class, and n bound "
                "its probability, for which more are needed"
            )
        return made
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        message = shortened(first["msg"].removeprefix("Value error, ").replace("Input should be", "it should be"))
        if first["type"].startswith("float_") and key == "eps":
            message = "it is not a number or a fraction such as 4/255"
        if first["type"] == "literal_error":
            message = "valid: " + first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        given = reprlib.repr(values.get(key) if len(first["loc"]) < 2 else first["input"])
        raise BadParameter(f"--{key.replace('_', '-')} {given} {origin(key)}: {message}") from None
