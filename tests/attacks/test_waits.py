"""How often a pass of each rung, and a decision of the deployed system, waits for the device, as it would on a GPU."""

from __future__ import annotations

import pytest
import torch
from helpers.toys import Brightness, Linear, Noisy, images

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.runtime.fingerprint import fingerprint
from robustbench_med.testing import PretendDevice

#: Most waits per forward and backward pass. How many images are purified has to be read back; nothing else is.
CEILINGS = {"oblivious": 0, "boundary": 0, "bpda": 1, "gate": 0, "full": 1, "query": 1, "transfer": 0, "insider": 0}
#: A decision copies six results to the CPU, and what its parts did to their images.
RESULTS = 7


def pipeline(gated: bool) -> Pipeline:
    gate = Gate(0.5, 0.1, 0.9) if gated else None
    return Pipeline(Linear(), Brightness() if gated else None, Noisy(), gate)


@pytest.mark.parametrize("limit", [None, 100])
@pytest.mark.parametrize("access", CEILINGS)
def test_a_pass_waits_at_most_once(access: str, limit: int | None) -> None:
    with PretendDevice() as device:
        system, x = pipeline(True).to(device.device), images().to(device.device)
        other = Linear().to(device.device)
        y = torch.zeros(len(x), dtype=torch.int64, device=device.device)
        counter = QueryCounter(x, y, ThreatModel(), Budget(limit, limit))
        rng = Stream.named("noise", 0, torch.arange(len(x), device=device.device))
        target = target_for(TargetSettings(system, counter, surrogate=other, insider=other), access, rng)
        found = []
        for _ in range(2):
            start = x.clone().requires_grad_(access != "query")
            device.reset()
            logits = target(start)
            if access != "query":
                logits.sum().backward()
            found.append(device.syncs.total())
        assert max(found) <= CEILINGS[access], device.syncs


def test_a_query_waits_only_where_a_budget_is_nearly_spent() -> None:
    with PretendDevice() as device:
        x = images().to(device.device)
        y = torch.zeros(len(x), dtype=torch.int64, device=device.device)
        counter, rows = QueryCounter(x, y, ThreatModel(), Budget(queries=10)), torch.arange(4, device=device.device)
        device.reset()
        for _ in range(10):
            counter.forward(rows, 1)
        assert device.syncs.total() == 0


@pytest.mark.parametrize(("gated", "waits"), [(False, 0), (True, 1)])
def test_a_decision_reads_the_results_and_the_number_of_purified_images(gated: bool, waits: int) -> None:
    with PretendDevice() as device:
        system, x = pipeline(gated).to(device.device), images().to(device.device)
        rng = Stream.named("noise", 0, torch.arange(len(x), device=device.device))
        device.reset()
        system.decide(x, rng, draws=3)
        assert device.syncs.total() == 3 * waits + RESULTS


def test_a_checksum_of_the_networks_waits_once_for_all_of_their_tensors() -> None:
    with PretendDevice() as device:
        system = pipeline(True).to(device.device)
        device.reset()
        there = fingerprint({"system": system})
        assert device.syncs.total() == 0  # it synchronizes once
        assert there == fingerprint({"system": system.to("cpu")})
