"""A run as a file, for processes that start later and elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic

from robustbench_med.errors import DataError
from robustbench_med.files.atomic import write_text
from robustbench_med.grid.config import RunConfig

_CONFIG = pydantic.TypeAdapter(RunConfig)


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        config: the run.
        plugins: plugin files.
        only: distributions that are loaded; None for all that are installed.
        command: the command line, which records name.
    """

    config: RunConfig
    plugins: tuple[Path, ...] = ()
    only: tuple[str, ...] | None = None
    command: tuple[str, ...] = ()

    def dumped(self) -> str:
        """As JSON."""
        options = _CONFIG.dump_python(self.config, mode="json")
        for threat in options["threat"]:
            del threat["access"]  # of each cell, from the option of that name
        plugins = [str(path.absolute()) for path in self.plugins]
        facts = {"options": options, "plugins": plugins, "only": self.only, "command": self.command}
        return json.dumps(facts, indent=1)

    def write(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        write_text(path, self.dumped())

    @classmethod
    def read(cls, path: Path) -> Request:
        """The request in a file.

        Raises:
            DataError: it cannot be read, or is none.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            only: Sequence[str] | None = facts["only"]
            return cls(
                _CONFIG.validate_python(facts["options"]),
                tuple(map(Path, facts["plugins"])),
                None if only is None else tuple(only),
                tuple(facts["command"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no request for a run: {' '.join(str(error).split())[:200]}") from None
