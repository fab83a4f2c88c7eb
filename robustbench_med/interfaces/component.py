"""What all components share: they are built from validated parameters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pydantic

from robustbench_med.errors import BadParameter
from robustbench_med.plugins.references import fraction


def _number(value: Any) -> Any:
    """Text such as ``1/4`` as a float; pydantic validates everything else."""
    if not (isinstance(value, str) and "/" in value):
        return value
    try:
        return fraction(value)
    except BadParameter as error:
        raise ValueError(str(error)) from None


#: A float parameter that may be written as a fraction, such as ``4/255``.
Number = Annotated[float, pydantic.BeforeValidator(_number)]


class Params(pydantic.BaseModel):
    """Parameters of a component: frozen, nothing extra, every field described.

    ::

        class Params(rbmed.Params):
            steps: int = Field(100, ge=1, description="Gradient steps.")
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        missing = [name for name, info in cls.model_fields.items() if not info.description]
        if missing:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__}: fields without description: {', '.join(missing)}")


class Component:
    """Base class of everything a plugin offers: built from its `Params`.

    ``spec_name`` and ``spec_revision`` are those of the spec it was built from. ``multi_label`` says whether it works
    where an image has several findings, each with a logit of its own: ``yes``; ``named``, if one of them is asked
    about, which makes two classes of it; or ``no``.
    """

    spec_name: str = ""
    spec_revision: int = 0
    multi_label: Literal["yes", "named", "no"] = "yes"

    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any = None) -> None:
        self.params: Any = self.Params() if params is None else params
