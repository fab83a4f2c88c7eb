"""Flower's processes on this machine: ports, start, restart, stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp

from rbmed_fl.engines.certificates import CA, CERTIFICATE, KEY, certificates, node_key
from rbmed_fl.engines.flower_cli import LOOPBACK, configure, environment, flwr
from robustbench_med.errors import HarnessError

#: Longest start of the superlink; a slow or busy machine needs more than a minute.
START_SECONDS = 300


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder, removed even if an ending process still writes into it."""
    folder = Path(mkdtemp(prefix="rbmed-"))
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1)


def free_port() -> int:
    """A port of the loopback address that is free at this moment."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port


def await_superlink(address: str, authority: Path, seconds: float, check: Callable[[], None] = lambda: None) -> None:
    """Return when the superlink replies over TLS, with a certificate of that authority.

    Args:
        address: HOST:PORT.
        authority: file with its certificate.
        seconds: how long to wait.
        check: called before every attempt; may raise.

    Raises:
        HarnessError: there is no such reply within that time.
    """
    context = ssl.create_default_context(cafile=str(authority))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    deadline = time.monotonic() + seconds
    while True:
        check()
        try:
            opener.open(f"https://{address}/health", timeout=5).close()
            return
        except OSError as error:
            # A wrong certificate stays wrong.
            final = isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
            if final or time.monotonic() > deadline:
                raise HarnessError(f"no superlink replies at https://{address}: {error}") from None
        time.sleep(0.2)


class FlowerProcesses:
    """A superlink and supernodes, each in its own process group, all stopped at the end of the block.

    The superlink talks only to supernodes whose keys were registered here: each start of one has a new key.

    Args:
        folder: for certificates, keys, logs and homes.
        nodes: ``--node-config`` by name of supernode; names are used in file names.
    """

    def __init__(self, folder: Path, nodes: Mapping[str, str]) -> None:
        self.folder = folder
        self.nodes = dict(nodes)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts: Counter[str] = Counter()
        self._port = free_port()
        self.address = f"{LOOPBACK}:{self._port}"
        self.home = folder / "homes" / "flwr"

    def __enter__(self) -> FlowerProcesses:
        try:
            certificates(self.folder)
            options = ("--disable-runtime-dependency-installation", "--enable-supernode-auth")
            self._start("superlink", self._port, "superlink", *options)
            await_superlink(self.address, self.folder / CA, START_SECONDS, self._check_superlink)
            configure(self.home, self.address, self.folder / CA)
            with ThreadPoolExecutor() as pool:  # registering is a start of Flower's command line each time
                list(pool.map(self.supernode, self.nodes))
        except BaseException:
            self.__exit__()
            raise
        return self

    def supernode(self, name: str, superlink: str | None = None) -> None:
        """Start a supernode of ``nodes``; ``superlink`` is another address of the same superlink."""
        private, public = node_key(self.folder / "keys", name)
        flwr(self.home, "supernode", "register", str(public))
        options = {
            "--auth-supernode-private-key": str(private),
            "--superlink": superlink or self.address,
            "--root-certificates": str(self.folder / CA),
            "--node-config": self.nodes[name],
        }
        self._start(name, free_port(), "supernode", *chain.from_iterable(options.items()))

    def restart_ended(self) -> None:
        """Restart supernodes that have ended.

        Raises:
            HarnessError: the superlink has ended, or a supernode for the fourth time.
        """
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                continue
            if name == "superlink" or self.restarts[name] == 3:
                raise HarnessError(f"{name} of the federation ended: {self.last_log_line(name)}")
            self.restarts[name] += 1
            self.supernode(name)

    def last_log_line(self, name: str) -> str:
        """The last line of a process's log."""
        lines = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            _signal(process, signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            _signal(process, signal.SIGKILL)
            process.wait()

    def _start(self, name: str, port: int, role: str, *options: str) -> None:
        address = ("--host", LOOPBACK, "--port", str(port))
        tls = ("--ssl-certfile", CERTIFICATE, "--ssl-keyfile", KEY, "--ssl-ca-certfile", CA)
        command = (sys.executable, "-m", "rbmed_fl.engines.flower_process", str(os.getpid()), role)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, *address, *tls, *options],
                env=environment(self.folder / "homes" / name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _check_superlink(self) -> None:
        if self.processes["superlink"].poll() is not None:
            raise HarnessError(f"the superlink cannot start: {self.last_log_line('superlink')}")


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the whole process group, which may outlive its leader."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
