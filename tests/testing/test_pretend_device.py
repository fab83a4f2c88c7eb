"""The pretend device computes what the CPU does, refuses what a GPU refuses, and counts where a program waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustbench_med.testing import PretendDevice

CUDA = PretendDevice.device


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def trained(device: str) -> list[Tensor]:
    net, x = network().to(device), torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)).to(device)
    y = torch.arange(6, device=device) % 2
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net.eval()(x).square().sum(), x)
    return [each.detach().cpu() for each in (gradient, *net.state_dict().values())]


def test_training_and_gradients_have_the_values_of_the_cpu() -> None:
    with PretendDevice():
        found = trained("cuda")
    for ours, theirs in zip(found, trained("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_tensors_say_where_they_are() -> None:
    with PretendDevice():
        x = torch.rand(3).cuda()
        assert (x.device, x.is_cuda, x.device.type) == (CUDA, True, "cuda")
        made = [
            torch.zeros_like(x),
            x.new_tensor([1.0]),
            torch.tensor([1], device="cuda"),
            torch.arange(3, device=CUDA),
        ]
        assert all(each.device == CUDA for each in [*made, *(x[:1] for _ in range(1)), torch.empty(2, device=CUDA)])
        assert made[1].tolist() == [1.0]
        assert x.cpu().device.type == "cpu"
        assert torch.rand(3).to(x).device == CUDA
        gradient = torch.rand(3, requires_grad=True)
        (gradient.to(CUDA) * x).sum().backward()
        assert gradient.grad is not None
        assert gradient.grad.device.type == "cpu"


ERRORS: list[tuple[str, type[Exception], Callable[[Tensor, Tensor], object]]] = [
    ("at least two devices", RuntimeError, lambda there, here: there + here),
    ("at least two devices", RuntimeError, lambda there, here: torch.cat([there, here])),
    ("at least two devices", RuntimeError, lambda there, here: here.mul_(there)),
    ("at least two devices", RuntimeError, lambda there, here: torch.zeros(()).add_(there.sum())),
    ("at least two devices", RuntimeError, lambda there, here: there.index_copy(0, torch.tensor([0]), there[:1])),
    ("indices should be", RuntimeError, lambda there, here: here[there.long()]),
    ("generator", RuntimeError, lambda there, here: torch.rand(2, device="cuda", generator=torch.Generator())),
    ("generator", RuntimeError, lambda there, here: there.normal_(generator=torch.Generator().manual_seed(0))),
    ("generator", RuntimeError, lambda there, here: torch.rand(2, generator=torch.Generator("cuda"))),
    ("to numpy", TypeError, lambda there, here: there.numpy()),
]


@pytest.mark.parametrize(("message", "kind", "work"), ERRORS)
def test_what_a_gpu_refuses_raises(message: str, kind: type[Exception], work: Callable[..., object]) -> None:
    with PretendDevice(), pytest.raises(kind, match=message):
        work(torch.zeros(3, device="cuda"), torch.zeros(3))


def test_what_a_gpu_allows_does_not_raise() -> None:
    with PretendDevice():
        there, index = torch.zeros(3, device="cuda"), torch.tensor([0])
        assert (there + torch.ones(())).device == CUDA  # a number of the CPU
        assert there[index].device == CUDA  # indices of the CPU
        there[:2] = torch.ones(2)
        assert torch.rand(2, device="cuda", generator=torch.Generator("cuda").manual_seed(0)).device == CUDA
        assert there.squeeze_().unsqueeze_(0).shape == (1, 3)


WAITS: list[tuple[int, Callable[[Tensor], object]]] = [
    (1, lambda x: x.sum().item()),
    (1, lambda x: bool(x.any())),
    (1, lambda x: float(x[0])),
    (1, lambda x: x.tolist()),
    (1, lambda x: x.cpu()),
    (0, lambda x: x.to("cpu", non_blocking=True)),
    (1, lambda x: torch.zeros(3).to(x)),
    (0, lambda x: torch.zeros(3).to("cuda", non_blocking=True)),
    (1, lambda x: torch.tensor([1.0], device="cuda")),
    (1, lambda x: x.new_tensor([1.0])),
    (1, lambda x: x.nonzero()),
    (1, lambda x: x[x > 0]),
    (1, lambda x: torch.masked_select(x, x > 0)),
    (1, lambda x: torch.where(x > 0)),
    (1, lambda x: torch.unique(x)),
    (1, lambda x: torch.equal(x, x)),
    (1, lambda x: x.repeat_interleave(torch.arange(3, device=x.device))),
    (0, lambda x: x.repeat_interleave(2)),
    (0, lambda x: torch.where(x > 0, x, 0.0)),
    (0, lambda x: x.clone().masked_fill_(x > 0, 1.0)),
    (0, lambda x: x[:2] + torch.arange(2, device=x.device)),
    (0, lambda x: x.topk(2).values.sort().values.argmax()),
]


@pytest.mark.parametrize(("times", "work"), WAITS)
def test_waits_are_counted(times: int, work: Callable[[Tensor], object]) -> None:
    with PretendDevice() as device:
        x = torch.ones(3, device="cuda")
        device.reset()
        work(x)
        assert device.syncs.total() == times, device.syncs


def test_a_wait_is_counted_at_its_line() -> None:
    with PretendDevice() as device:
        x = torch.ones(3, device="cuda")
        for _ in range(4):
            x.sum().item()
        (place,) = device.syncs
        assert place.startswith("testing/test_pretend_device.py:")
        assert device.syncs[place] == 4
        assert device.launches["sum"] == 4


def test_nothing_is_left_behind() -> None:
    generator, available = torch.Generator, torch.cuda.is_available()
    with PretendDevice():
        assert torch.cuda.is_available()
    assert torch.Generator is generator
    assert torch.cuda.is_available() == available
    assert torch.zeros(2).device.type == "cpu"
