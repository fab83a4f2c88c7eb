"""The parameters of Byzantine clients, apart from their behaviours: they are checked before torch is imported."""

from __future__ import annotations

from typing import Annotated

import pydantic

from rbmed_fl.option import checked
from robustbench_med import Field, Number, Params, read_choice


class ByzantineParams(Params):
    """Which clients are Byzantine."""

    clients: int = Field(1, ge=1, description="Number of Byzantine clients: the last ones in the order of their names.")
    names: tuple[str, ...] = Field((), description="Names of the Byzantine clients, instead of their number.")

    @pydantic.model_validator(mode="after")
    def _one_of_them(self) -> ByzantineParams:
        if {"clients", "names"} <= self.model_fields_set:
            raise ValueError("give either clients or names, not both")
        return self


class SignFlipParams(ByzantineParams):
    """Of `SignFlip`."""

    factor: Number = Field(1.0, gt=0, allow_inf_nan=False, description="Factor on the honest update.")


class ScalingParams(ByzantineParams):
    """Of `Scaling`."""

    factor: Number = Field(10.0, gt=0, allow_inf_nan=False, description="Factor on the honest update.")


class GaussianParams(ByzantineParams):
    """Of `GaussianUpdate`."""

    std: Number = Field(
        10.0,
        gt=0,
        allow_inf_nan=False,
        description="Standard deviation of the noise, in root mean squares of the honest update's entries.",
    )


class BackdoorParams(ByzantineParams):
    """Of `Backdoor`."""

    target: int = Field(0, ge=0, description="The class that the model answers on the trigger.")
    share: Number = Field(0.5, gt=0, le=1, description="Share of its images that get the trigger.")
    boost: Number | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Factor on the honest update; default: the number of clients divided by that of the Byzantine "
        "ones, so that together they replace a mean of equal weights.",
    )


#: By the name of the behaviour.
PARAMS: dict[str, type[ByzantineParams]] = {
    "label-flip": ByzantineParams,
    "sign-flip": SignFlipParams,
    "scaling": ScalingParams,
    "gaussian": GaussianParams,
    "backdoor": BackdoorParams,
}


def read_malicious(text: str) -> tuple[str, ByzantineParams]:
    """The behaviour of ``malicious=TEXT`` and its parameters; ``none`` for honest clients.

    Raises:
        BadParameter: there is no such behaviour, or a parameter is not valid.
    """
    return (text, ByzantineParams()) if text == "none" else read_choice("malicious", text, PARAMS, ("none",))


#: Text that `read_malicious` accepts; checked when the parameters are created.
MaliciousText = Annotated[str, checked(read_malicious)]
