"""Anything a plugin offers is built from validated parameters."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic


class Params(pydantic.BaseModel):
    """Parameters of a component: frozen, nothing extra, every field described.

    ::

        class Params(rbmed.Params):
            steps: int = Field(100, ge=1, description="Gradient steps.")
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        silent = [name for name, info in cls.model_fields.items() if not info.description]
        if silent:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__}: fields without description: {', '.join(silent)}")


class Component:
    """Anything a plugin offers: built from its `Params`.

    ``spec_name`` and ``spec_revision`` are those of the spec it was built from.
    """

    spec_name: str = ""
    spec_revision: int = 0

    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any = None) -> None:
        self.params: Any = self.Params() if params is None else params
