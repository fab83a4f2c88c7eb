"""Which addresses processes listen on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

#: Loopback, as /proc/net shows it.
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def listening(mark: str) -> list[tuple[str, str]]:
    """Address and command of each open port of the processes that were started with ``mark`` in their environment."""
    owners: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                owners |= {str(link.readlink()): command for link in (process / "fd").iterdir()}
    found = []
    for name in ("tcp", "tcp6"):
        for entry in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = entry.split()
            if words[3] == "0A" and (owner := owners.get(f"socket:[{words[9]}]")):
                found.append((words[1].partition(":")[0], owner))
    return found
