"""Flower's processes: TLS only, known supernodes only, and none outlives its parent."""

from __future__ import annotations

import http.client
import subprocess
import sys

import pytest

from rbmed_fl.engines.certificates import CA, certificates, node_key
from rbmed_fl.engines.flower_cli import flwr
from rbmed_fl.engines.processes import FlowerProcesses, await_superlink, free_port
from robustbench_med.errors import HarnessError


@pytest.fixture(scope="module")
def superlink(place, assert_ended):
    """A superlink without supernodes."""
    folder = place / "superlink"
    folder.mkdir()
    with FlowerProcesses(folder, {}) as processes:
        yield processes
    assert_ended(folder)


def test_the_superlink_speaks_tls_only(superlink, tmp_path):
    certificates(tmp_path)  # of another authority
    await_superlink(superlink.address, superlink.folder / CA, 0)
    with pytest.raises(HarnessError, match="CERTIFICATE_VERIFY_FAILED"):
        await_superlink(superlink.address, tmp_path / CA, 0)
    plain = http.client.HTTPConnection(superlink.address, timeout=1800)
    plain.request("GET", "/health")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        plain.getresponse()
    plain.close()


@pytest.mark.parametrize("key", [True, False])
def test_a_supernode_that_is_not_registered_is_refused(superlink, key):
    name, folder = f"stranger-{key}", superlink.folder
    options = ["--superlink", superlink.address, "--root-certificates", str(folder / CA)]
    if key:
        options += ["--auth-supernode-private-key", str(node_key(folder / "keys", name)[0])]
    superlink._start(name, free_port(), "supernode", *options)
    assert superlink.processes[name].wait(1800) != 0
    assert "Failed to initialize the connection" in (folder / f"{name}.log").read_text()
    assert flwr(superlink.home, "supernode", "list")["nodes"] == []


@pytest.mark.slow
def test_all_processes_end_with_their_parent(place, running, assert_ended):
    folder = place / "orphans"
    folder.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from rbmed_fl.engines.processes import FlowerProcesses\n"
        "with FlowerProcesses(Path(sys.argv[1]), {'a': 'partition-id=0'}): print('up', flush=True); time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as launcher:
        try:
            assert launcher.stdout.readline() == b"up\n"
            assert len(running(folder)) >= 2
        finally:
            launcher.kill()
    assert_ended(folder)
