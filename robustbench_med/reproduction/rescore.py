"""Adversarial images of others, answered by the deployed system with noise that no attack has seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load
from torch import Tensor

from robustbench_med.defenses.deployment import Deployment
from robustbench_med.errors import DataError, OutsideThreatModel
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.reproduction.verify import Verifier

#: Images that are answered at once.
CHUNK = 64


def rescore(
    verifier: Verifier, record: Record, file: Path, name: str, attack: str, paper: Paper, weights: Path | None = None
) -> Evidence:
    """Let the system of a record answer adversarial images.

    Args:
        verifier: opens data and weights.
        record: a cell of the system; says norm, eps, noise draws and seed.
        file: safetensors with ``index``, int64 (N,), rows of the test split, and ``images``, float32 (N, C, H, W).
        name: what the evidence is called.
        attack: what made the images, in words.
        paper: where that is published.
        weights: folder of the weights; by default those here that have the record's digest.

    Raises:
        DataError: the file is not as it should be, or an image lies outside the threat model.
        UsageError: data or weights are not here.
    """
    images, index, digest = read_images(file)
    dataset, deployment = verifier.opened(record, weights)
    test = dataset.split("test")
    if int(index[-1]) >= len(test):
        raise DataError(f"{file}: there is no image {int(index[-1])}; the test split has {len(test)}")
    clean = test.select(index)
    threat = ThreatModel(record.threat.norm, record.threat.eps)
    try:
        threat.check(images, clean.images)
    except OutsideThreatModel as error:
        raise DataError(f"{file}: {error}") from None
    if strange := sorted(set(clean.sites) - set(record.clients)):
        raise DataError(f"{file}: images of {strange[0]}, which is no client of the record")

    def outcome(stream: str) -> ImageResults:
        before, after = (_answers(deployment, clean, x, index, record, stream) for x in (clean.images, images))
        labels = clean.labels.numpy().astype(np.int8)
        return ImageResults(record.cell_id, tuple(index.tolist()), labels, before, after)

    return Evidence(name, record.cell_id, attack, paper, digest, outcome("evidence choice"), outcome("evidence"))


def read_images(file: Path) -> tuple[Tensor, Tensor, str]:
    """Images (N, C, H, W), their rows in the test split, rising, and the digest of the file.

    Raises:
        DataError: the file holds something else.
    """
    try:
        data = file.read_bytes()
        found = load(data)
        images, index = found["images"], found["index"]
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, KeyError) as error:
        raise DataError(f"{file} is no safetensors file with the tensors index and images: {error}") from None
    if (
        images.dim() != 4
        or images.dtype != torch.float32
        or index.dtype != torch.int64
        or index.shape != images.shape[:1]
    ):
        raise DataError(f"{file}: images must be float32 (N, C, H, W), index int64 (N,)")
    if not len(index) or int(index[0]) < 0 or bool((index.diff() <= 0).any()):
        raise DataError(f"{file}: index must name each image once, in rising order")
    return images, index, hashlib.sha256(data).hexdigest()


def _answers(
    deployment: Deployment, split: Split, images: Tensor, index: Tensor, record: Record, stream: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Answers (draws, N), each client's own system to its images; -1 for an abstention."""
    found: Tensor | None = None
    for site in sorted(set(split.sites)):
        pipeline = deployment.pipeline(site)
        draws = record.draws if pipeline.stochastic else 1
        rows = torch.tensor([at for at, name in enumerate(split.sites) if name == site])
        for part in torch.split(rows, CHUNK):
            rng = Stream.named(stream, record.seed, index[part].to(deployment.device))
            told = pipeline.decide(images[part].to(deployment.device), rng, draws)
            found = torch.zeros(draws, len(index), dtype=torch.int8) if found is None else found
            found[:, part] = torch.where(told.rejected, ABSTAINED, told.predictions).to(torch.int8)
    assert found is not None
    return found.numpy()
