"""Parameters whose value names a component, such as ``malicious=scaling:factor=10``."""

from __future__ import annotations

from collections.abc import Callable

import pydantic


def checked(read: Callable[[str], object]) -> pydantic.AfterValidator:
    """Checks that ``read`` accepts the text of a parameter, when the parameters are created."""

    def check(text: str) -> str:
        read(text)
        return text

    return pydantic.AfterValidator(check)
