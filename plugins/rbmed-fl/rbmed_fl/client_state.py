"""A client's state between its local rounds. It is stored at the client and never sent.

After each round the client stores its state and keeps that of the round before: if the federation is interrupted after
a client has finished a round and before the server has, the client repeats the round from where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rbmed_fl import files
from rbmed_fl.states import State
from robustbench_med.errors import WeightsError


class ClientStore:
    """Stores the state of one client in files, one per round, each replaced atomically.

    Args:
        folder: of this client alone.
        identity: of the federation; a state of another federation is refused.
        may_miss_rounds: the client may have missed rounds; it then resumes from its last one.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], may_miss_rounds: bool = False) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.may_miss_rounds = may_miss_rounds

    def save(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Store ``state`` (on the CPU) after round ``number`` and delete all others but that of the round before."""
        files.write(self._file(number), state, {"identity": self.identity})
        wanted = {self._file(number), self._file(self._last(number - 1))}
        for path in set(self.folder.glob("round-*.safetensors")) - wanted:
            path.unlink()

    def load(self, number: int) -> State:
        """The client's state after round ``number``; empty before its first one.

        Raises:
            WeightsError: the file is missing or corrupt.
            UsageError: it belongs to another federation.
        """
        if self.may_miss_rounds:
            number = self._last(number)
        if number == 0:
            return {}
        path = self._file(number)
        if not path.is_file():
            raise WeightsError(
                f"the client's state after round {number} is missing: {path}; without it the training cannot resume; "
                f"delete the server's checkpoint to start from scratch"
            )
        return files.read(path, self.identity)[0]

    def _last(self, number: int) -> int:
        """The last round up to ``number`` that has a file; 0: none."""
        rounds = (int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.safetensors"))
        return max((found for found in rounds if found <= number), default=0)

    def _file(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"
