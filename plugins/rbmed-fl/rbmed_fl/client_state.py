"""What a client remembers from one of its turns to the next. It stays where the client is and is never sent.

A memory is kept after each round, and that of the round before is kept with it: if the federation is interrupted after
a client has finished and before the server has, the client does the round again from where it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rbmed_fl import files
from rbmed_fl.states import State
from robustbench_med.errors import WeightsError


class Memory(ABC):
    """The memory of one client, by round; there is nothing to remember after round 0."""

    def recall(self, number: int) -> State:
        """What the client knew after round ``number``."""
        return self._read(number) if number else {}

    @abstractmethod
    def keep(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Remember ``state`` (on the CPU) after round ``number`` and forget all but the round before."""

    @abstractmethod
    def _read(self, number: int) -> State: ...


class InMemory(Memory):
    """A memory that ends with the process."""

    def __init__(self) -> None:
        self._rounds: dict[int, State] = {}

    def keep(self, number: int, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        before = self._rounds.get(number - 1)
        self._rounds = {number: dict(state)} if before is None else {number - 1: before, number: dict(state)}

    def _read(self, number: int) -> State:
        return dict(self._rounds[number])


class InFolder(Memory):
    """A memory in files, one a round, each replaced atomically.

    Args:
        folder: of this client alone.
        identity: what the federation is; a memory of another one is refused.
        gaps: the client may have missed rounds, and remembers the last one it took part in.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], gaps: bool = False) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.gaps = gaps

    def keep(self, number: int, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        files.write(self._file(number), state, {"identity": self.identity})
        wanted = {self._file(number), self._file(self._last(number - 1))}
        for path in set(self.folder.glob("round-*.safetensors")) - wanted:
            path.unlink()

    def _read(self, number: int) -> State:
        if self.gaps:
            number = self._last(number)
            if number == 0:
                return {}
        path = self._file(number)
        if not path.is_file():
            raise WeightsError(
                f"the client's memory of round {number} is missing: {path}; without it the training cannot go on, "
                f"delete the server's checkpoint to start afresh"
            )
        return files.read(path, self.identity)[0]

    def _last(self, number: int) -> int:
        """The last round up to ``number`` of which there is a file; 0: none."""
        rounds = (int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.safetensors"))
        return max((found for found in rounds if found <= number), default=0)

    def _file(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"
