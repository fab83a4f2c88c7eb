"""How often an attack's loop waits for the device, as it would on a GPU."""

from __future__ import annotations

import pytest
import torch

import robustbench_med as rbmed
from robustbench_med.testing import PretendDevice, toy_images, toy_target

#: Most waits per step (of CW: in each of its searches), where broken images may leave the batch.
CEILINGS = {
    "apgd": ("steps", "linf", 1 / 8),
    "apgd:stop=early": ("steps", "linf", 1 / 4),  # and where it is decided which images are given up
    "boundary": ("steps", "linf", 1 / 8),
    "cw:searches=1": ("steps", "l2", 1 / 8),
    "fab": ("steps", "linf", 1 / 8),
    "hfc": ("steps", "linf", 1 / 8),
    "lee-kim": ("steps", "linf", 1 / 8),
    "low-frequency": ("steps", "linf", 1 / 8),
    "mifgsm": ("steps", "linf", 1 / 8),
    "momentum": ("steps", "linf", 1 / 8),
    "pgd": ("steps", "l1", 1 / 8),
    "square": ("queries", "linf", 1 / 8),
    "square:restarts=1": ("queries", "l2", 1 / 8),
    "hopskipjump:samples=2": ("steps", "linf", 1),
}
#: Most waits of a whole run of attacks without such steps.
ONCE = {"acquisition": 2, "clamp": 0, "corruption": 0, "fgsm": 0, "noise": 0}


def waits(name: str, key: str, norm: str, steps: int, random: bool) -> int:
    """Waits of a run of so many steps on images that it cannot break."""
    if key:
        name += f"{',' if ':' in name else ':'}{key}={steps}"
    attack = rbmed.load_component("attack", name)
    with PretendDevice() as device:
        target = toy_target().to(device.device)
        target.stop_on_success = not random
        x, rng = toy_images()
        x, rng = x.to(device.device), rbmed.Stream(rng.seeds.to(device.device))
        with torch.no_grad():
            y = target(x).argmax(1)
        device.reset()
        attack.run(target, x, y, rbmed.ThreatModel(norm, 1e-4), rbmed.Budget(), rng)
        return device.syncs.total()


@pytest.mark.parametrize("name", CEILINGS)
def test_a_step_hardly_ever_waits_for_the_device(name: str) -> None:
    key, norm, ceiling = CEILINGS[name]
    assert waits(name, key, norm, 16, False) - waits(name, key, norm, 8, False) <= 8 * ceiling


@pytest.mark.parametrize("name", [name for name in CEILINGS if not name.startswith("hopskipjump")])
def test_a_step_on_a_random_system_never_waits(name: str) -> None:
    key, norm, _ = CEILINGS[name]
    assert waits(name, key, norm, 4, True) == waits(name, key, norm, 2, True)


@pytest.mark.parametrize("name", ONCE)
def test_an_attack_without_steps_hardly_ever_waits(name: str) -> None:
    assert waits(name, "", "linf", 0, False) <= ONCE[name]
