"""Chunk sizes: what a probe says, what happens when memory runs out, and that results do not care."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from helpers.grids import BASE, run
from helpers.processes import LIMIT

import robustbench_med as rbmed
from robustbench_med.attacks import batch_size
from robustbench_med.grid.config import build
from robustbench_med.plugins.registry import Registry
from robustbench_med.runner.runner import Runner
from robustbench_med.runtime import memory
from robustbench_med.runtime.batching import Upload, in_chunks, out_of_memory


def assert_equal(one: rbmed.Record, other: rbmed.Record) -> None:
    """Equal metrics; means of real numbers may differ by rounding."""
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in one.metrics.items():
        assert other.metrics[name] == (None if value is None else pytest.approx(value, rel=1e-5)), name


def allocation_failure() -> RuntimeError:
    """What torch raises when the CPU's memory cannot hold a tensor."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    return caught.value


def test_out_of_memory_is_told_from_other_errors() -> None:
    assert out_of_memory(allocation_failure())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_slices_are_halved_until_they_fit_and_none_is_lost() -> None:
    asked: list[tuple[int, int]] = []

    def work(part: slice, size: int) -> int:
        asked.append((part.start, part.stop))
        if part.stop - part.start > 3:
            raise allocation_failure()
        return size

    found = list(in_chunks(20, 16, work, start=2))
    assert asked == [(2, 18), (2, 10), (2, 6), *((at, min(at + 2, 20)) for at in range(2, 20, 2))]
    assert [part.start for part, _ in found] == list(range(2, 20, 2))
    assert {size for _, size in found} == {2}


def test_an_image_that_does_not_fit_alone_and_other_errors_are_raised() -> None:
    def never(part: slice, size: int) -> None:
        raise MemoryError

    def wrong(part: slice, size: int) -> None:
        raise ValueError("wrong")

    with pytest.raises(MemoryError):
        list(in_chunks(4, 4, never))
    with pytest.raises(ValueError, match="wrong"):
        list(in_chunks(4, 4, wrong))


def test_memory_that_runs_out_changes_no_result(toys: Registry, tmp_path: Path) -> None:
    asked = {"attack": "faulty:how=memory", "seed": [0, 1], "batch_size": "auto"}
    tight = run(toys, tmp_path / "a", **asked)
    assert [r.status for r in tight] == ["ok"] * 2
    roomy = run(toys, tmp_path / "b", **{**asked, "attack": "faulty"})
    for small, large in zip(tight, roomy, strict=True):
        assert_equal(small, large)
        assert small.spent == large.spent


def test_results_do_not_depend_on_the_batch_size(toys: Registry, tmp_path: Path) -> None:
    asked = {"access": ["oblivious", "ladder:quick"], "limit": 10}
    sizes = [run(toys, tmp_path / str(size), **asked, batch_size=size) for size in (1, 4, "auto")]
    for records in sizes[1:]:
        for small, large in zip(sizes[0], records, strict=True):
            assert_equal(small, large)


def test_auto_takes_what_fits(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(build({**BASE, "batch_size": "auto", "out": tmp_path / "a"}), toys)
    list(runner.run())
    assert set(runner.evaluator._batch_sizes._known.values()) == {128}
    # A pass over four images takes 40 MB; 100 MB are free, half of which may be used.
    monkeypatch.setattr(memory, "free", lambda device: 10**8)
    monkeypatch.setattr(memory, "peak", lambda work, device: work() or 10**7 * runner_images.pop(0))
    runner_images = [1, 4]
    runner = Runner(build({**BASE, "batch_size": "auto", "out": tmp_path / "b"}), toys)
    (record,) = runner.run()
    assert set(runner.evaluator._batch_sizes._known.values()) == {4}
    assert record.status == "ok"


def test_a_probe_measures_what_a_pass_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    if memory.resident() is None:
        pytest.skip("this system does not say how much memory a process holds")
    device, held, each = torch.device("cpu"), 64 * 2**20, 16 * 2**20
    free = memory.free(device)
    assert free is not None
    samples, resident = threading.Semaphore(0), memory.resident

    def sampled() -> int | None:
        found = resident()
        samples.release()
        return found

    def work(size: int) -> None:
        """Holds its memory until that was sampled, however busy the machine is."""
        x = torch.ones(size // 4)
        if any(thread.name == "memory" for thread in threading.enumerate()):
            while samples.acquire(blocking=False):
                pass
            for _ in range(2):  # the first may have begun earlier
                assert samples.acquire(timeout=LIMIT)
        del x

    monkeypatch.setattr(memory, "resident", sampled)
    assert held * 0.9 < (memory.peak(lambda: work(held), device) or 0) < held * 2
    monkeypatch.setattr(memory, "free", lambda device: free)  # other processes change it
    most = memory.fitting(lambda n: work(n * each), 2**20, device)
    assert most & (most - 1) == 0
    assert 0.2 < most * each / (memory.SHARE * free) < 1.5


def test_a_chunk_size_is_learned_once(toys: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[int] = []
    once = batch_size.BatchSizes._probed

    def counted(self: batch_size.BatchSizes, *args: object) -> int:
        probed.append(1)
        return once(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_size.BatchSizes, "_probed", counted)
    run(toys, tmp_path / "out", seed=[0, 1, 2], batch_size="auto")
    assert len(probed) == 1


def test_images_go_to_the_device_as_they_are() -> None:
    images = torch.rand(7, 1, 2, 2)
    upload = Upload(images, torch.device("cpu"), ahead=True)
    for part in (slice(0, 3), slice(3, 6), slice(6, 7), slice(1, 2)):
        assert torch.equal(upload(part), images[part])


@pytest.mark.gpu
def test_images_go_to_a_gpu_ahead_of_time() -> None:
    images, device = torch.rand(7, 1, 2, 2), torch.device("cuda")
    upload = Upload(images, device, ahead=True)
    for part in (slice(0, 3), slice(3, 6), slice(0, 3), slice(6, 7), slice(1, 2)):
        assert torch.equal(upload(part).cpu(), images[part])


@pytest.mark.gpu
def test_a_gpu_that_runs_out_of_memory_backs_off() -> None:
    free = torch.cuda.mem_get_info()[0]

    def work(part: slice, size: int) -> int:
        return len(torch.empty((part.stop - part.start, free // 6), dtype=torch.uint8, device="cuda"))

    assert sum(result for _, result in in_chunks(16, 16, work)) == 16
