"""Which cells of a folder are done, by this run or by others that share the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustbench_med.errors import BadConfig
from robustbench_med.recording.records import Record, parse, read
from robustbench_med.registry import Registry

#: Diagnostics by how much they look at.
LEVELS = ("off", "cheap", "full")


def serves(record: Record, level: str, registry: Registry) -> bool:
    """Whether a record answers a request for diagnostics of ``level``: it is ok, and looked at no less.

    What was measured with a plugin file that has been edited since does not; installed plugins have revisions for that.
    """
    enough = LEVELS[LEVELS.index(level) :]
    made_with = {part["distribution"] for part in (record.dataset, record.defense, *_attacks(record))}
    now = {f"{entry.distribution} {entry.version}" for entry in registry.entries()}
    edited = any(" 0+" in origin and origin not in now for origin in made_with)
    return record.status == "ok" and record.diagnostics.get("level", "off") in enough and not edited


def _attacks(record: Record) -> list[dict[str, Any]]:
    return [record.attack, *record.attack.get("rungs", ())]


class Ledger:
    """The last record of each cell; what others append is taken in at each look.

    Args:
        path: ``records.jsonl``; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        self._last: dict[str, Record] = {}
        if path.is_file():
            self._size = path.stat().st_size
            self._last = {record.cell_id: record for record in read(path)}

    def last(self, cell_id: str) -> Record | None:
        """The cell's last record, if there is one."""
        self._catch_up()
        return self._last.get(cell_id)

    def _catch_up(self) -> None:
        """Read only what was added: re-reading thousands of records before each cell would take longer than cells."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return
        if size < self._size:  # somebody has rewritten the file
            self._size = 0
        if size == self._size:
            return
        with self.path.open("rb") as file:
            file.seek(self._size)
            added = file.read()
        whole = added.rfind(b"\n") + 1
        self._size += whole
        for line in added[:whole].splitlines():
            try:
                record = parse(line)
            except (ValueError, BadConfig):
                continue  # whoever reads the whole file says what is wrong with it
            self._last[record.cell_id] = record
