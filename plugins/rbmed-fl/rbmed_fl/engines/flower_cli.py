"""Flower's command line, which is its public interface: its environment, its connection to a superlink, its answers."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from robustbench_med.errors import HarnessError

LOOPBACK = "127.0.0.1"
_CONNECTION = """\
[superlink]
default = "here"

[superlink.here]
address = {address}
root-certificates = {authority}
"""


def environment(home: Path) -> dict[str, str]:
    """For a Flower process: a separate home, no telemetry, no update check, and its tools on the PATH."""
    home.mkdir(parents=True, exist_ok=True)
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), LOOPBACK)))
    return os.environ | {
        "NO_PROXY": direct,  # no proxy for this machine
        "no_proxy": direct,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", ""),
        "PYTHONUNBUFFERED": "1",
    }


def configure(home: Path, address: str, authority: Path) -> None:
    """Let commands with this home talk to a superlink, HOST:PORT, that has a certificate of ``authority``."""
    home.mkdir(parents=True, exist_ok=True)
    connection = _CONNECTION.format(address=toml(address), authority=toml(str(authority)))
    (home / "config.toml").write_text(connection, encoding="utf-8")


def flwr(home: Path, *words: str) -> dict[str, Any]:
    """Run a command and return its JSON output.

    Raises:
        HarnessError: it failed.
    """
    done = subprocess.run(
        ["flwr", *words, "--format", "json"],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        output = json.loads(done.stdout)
    except ValueError:
        output = {"success": False, "error-message": (done.stderr or done.stdout)[-500:]}
    if not isinstance(output, dict) or not output.get("success"):
        raise HarnessError(f"`flwr {words[0]}` failed: {' '.join(str(output).split())}")
    return output


def toml(text: str) -> str:
    """A TOML string: like JSON's, but TOML requires one more character to be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
