"""Parameters of every federated strategy."""

from __future__ import annotations

from typing import Any, Literal

from rbmed_fl.adversarial_training import Adversarial
from rbmed_fl.engines.config import EngineText
from rbmed_fl.faults import FaultsText
from rbmed_fl.malicious import MaliciousText
from rbmed_fl.privacy import PrivacyText
from rbmed_fl.secure_aggregation import SecureAggregationText
from robustbench_med import Field, Number, Params

#: Added after weights were published: these keep their keys as long as the parameter has its default.
LATER: dict[str, Any] = {"later": True}


class TrainParams(Params):
    """How long the federation trains, and how a client trains in a local round."""

    rounds: int = Field(12, ge=1, description="Rounds of the federation.")
    local_epochs: int = Field(2, ge=1, description="Passes over a client's own images in each round.")
    batch_size: int = Field(64, ge=1, description="Largest batch; a client's images are split into even batches.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="The client's optimizer, fresh in every round; 'sgd' has no momentum."
    )
    lr: float = Field(2e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay (decoupled with 'adamw', else an L2 penalty).")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        description="'cosine': linear warm-up within the first epoch of round 1, then down to 0 at the end of the last "
        "round; 'constant': always lr.",
    )
    augment: bool = Field(True, description="Random horizontal flips, and the shifts and jitter below.")
    shift: float = Field(0.0, ge=0, le=0.5, description="With augment: shifts up to this share of the side.")
    jitter: float = Field(
        0.0, ge=0, le=0.5, description="With augment: changes of contrast and brightness up to this much, per image."
    )
    noise: float = Field(
        0.0, ge=0, le=1, description="Adds Gaussian noise whose sigma is drawn per image from [0, noise]."
    )
    autocast: bool = Field(False, description="Train in bfloat16 autocast: faster, slightly different weights.")
    ema: Number = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, such as 0.999, which is deployed "
        "in place of the last weights; 0: the last weights.",
        json_schema_extra=LATER,
    )
    adversarial: Adversarial = Field(
        "none", description="Adversarial training by every client: none, pgd:KEY=VALUE,... or trades:KEY=VALUE,..."
    )
    malicious: MaliciousText = Field(
        "none",
        description="Byzantine clients: none, label-flip, sign-flip, scaling, gaussian or backdoor, with "
        "parameters such as scaling:clients=1,factor=10.",
    )
    faults: FaultsText = Field(
        "none",
        description="Unreliable clients: none, or random with the probability, per client and round, of dropout, late, "
        "nan, inf and huge, such as random:dropout=0.2,nan=0.05.",
        json_schema_extra=LATER,
    )
    privacy: PrivacyText = Field(
        "none",
        description="Differential privacy of clients: none, or dp:KEY=VALUE,..., such as "
        "dp:noise_multiplier=0.5,clipping=2.",
        json_schema_extra=LATER,
    )
    secure_aggregation: SecureAggregationText = Field(
        "none",
        description="How the server is kept from seeing single updates: none, or secaggplus:KEY=VALUE,...",
        json_schema_extra=LATER,
    )
    update_limit: Number = Field(
        1000.0,
        ge=0,
        allow_inf_nan=False,
        description="An update longer than this many times the median of the round is refused; 0: no limit.",
        json_schema_extra=LATER,
    )
    engine: EngineText = Field(
        "inprocess",
        description="What runs the federation: inprocess, simulation:KEY=VALUE,... (Ray) or deployment:KEY=VALUE,...; "
        "the weights are the same.",
        json_schema_extra={"runtime": True},
    )
