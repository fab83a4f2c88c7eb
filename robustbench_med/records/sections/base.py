"""What all sections of a record have in common, and the types of their fields."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Protocol

import pydantic
from pydantic import Field

from robustbench_med.files.escaping import line
from robustbench_med.files.redact import redacted
from robustbench_med.plugins.references import PartRef, format_ref

#: Text that is safe to show in a terminal: without control characters.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]
#: A short text on one line.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]
#: A whole number that every JSON reader represents exactly.
Count = Annotated[int, Field(ge=0, le=2**53, strict=True)]
#: A figure: of a size whose sums and multiples are finite too.
Number = Annotated[float, Field(ge=-1e15, le=1e15, strict=True)]
#: A time or a size.
Size = Annotated[float, Field(ge=0, le=1e15, strict=True)]
#: Why something did not run: text of plugins, made printable; paths of the machine are removed.
Reason = Annotated[str, pydantic.BeforeValidator(lambda text: redacted(line(text)) if isinstance(text, str) else text)]


@lru_cache(maxsize=4096)
def moment(text: str) -> dt.datetime:
    """The time that a text says, UTC where it names no zone: ``2026-11-22T10:00:00+00:00``.

    Raises:
        ValueError: it says none, or one that no clock showed.
    """
    if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text):
        raise ValueError(f"{text!r:.40} is no time such as 2026-11-22T10:00:00+00:00")
    found = dt.datetime.fromisoformat(text)
    if not 1970 <= found.year < 2100:
        raise ValueError(f"{text!r:.40} is no time of this century")
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _a_moment(text: str) -> str:
    moment(text)
    return text


#: A time, kept as it was written.
Moment = Annotated[Name, pydantic.AfterValidator(_a_moment)]


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise ValueError("null is no value; leave the key out")
    return value


#: For a field whose key may be missing but is never null.
NotNull = pydantic.BeforeValidator(_refuse_null)


class RecordSection(pydantic.BaseModel):
    """A section of a record."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    @pydantic.model_serializer(mode="wrap")
    def _as_given(self, write: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The keys that were given."""
        facts = write(self)
        return {name: facts[name] for name in self._order(facts) if name in self.model_fields_set}

    def _order(self, facts: Mapping[str, Any]) -> Iterable[str]:
        return facts


class NamedComponent(Protocol):
    """A component with the parameters that were given."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def params_passed(self) -> Mapping[str, Any]:
        """The parameters."""


def formatted(component: NamedComponent) -> str:
    """A component as on the command line: ``apgd:steps=20``."""
    return format_ref(PartRef(component.name, component.params_passed))
