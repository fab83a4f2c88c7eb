"""Random numbers that depend on the image and the purpose, never on the batch.

With a global generator, an image's numbers depend on the images before it. A `Stream` is counter-based: every number is
a hash of (seed of the image, call, position), computed for the whole batch at once on the batch's device. So a result
does not depend on the batching, and attack noise, defense noise and scoring noise have separate named streams.
"""

from __future__ import annotations

import hashlib
import math
from typing import TypeVar

import torch
from torch import Tensor

_MASK = (1 << 31) - 1
#: Seeds of the names of forks, which are few: a pass hashes none, and torch's compiler cannot follow a hash.
_FORKS: dict[str, int] = {}
Bits = TypeVar("Bits", int, Tensor)


def seed_of(*parts: object) -> int:
    """A 62-bit seed from anything with a stable ``str``: ``seed_of(0, "attack", "brainsim", 17)``."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def _scramble(bits: Bits) -> Bits:
    """Mix 32-bit values held in int64 (the 'lowbias32' integer hash); products stay below 2**63.

    A number of Python gives the same as a tensor would, and does not have to be copied to a device.
    """
    bits = ((bits ^ (bits >> 16)) * 0x21F0AAAD) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 15)) * 0x735A2D97) & 0xFFFFFFFF
    return bits ^ (bits >> 15)


class Stream:
    """One named stream of random numbers per image.

    Args:
        seeds: int64 tensor of shape (N,), one seed per image.
    """

    def __init__(self, seeds: Tensor, calls: int = 0) -> None:
        self.seeds = seeds
        self.calls = calls

    @classmethod
    def named(cls, name: str, seed: int, ids: Tensor) -> Stream:
        """The stream ``name`` of a run with ``seed`` for the images with these int64 ``ids``, shape (N,)."""
        base = seed_of(seed, name)
        low, high = base & 0xFFFFFFFF, base >> 32
        mixed = _scramble((ids & 0xFFFFFFFF) ^ low) ^ _scramble(((ids >> 32) & _MASK) ^ high)
        return cls((_scramble(mixed) << 30) ^ _scramble(mixed ^ 0x5BD1E995))

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: Tensor | slice) -> Stream:
        """The streams of some of the images, at the same point of their sequence.

        Drawing from the selection does not advance the whole.
        """
        return Stream(self.seeds[index], self.calls)

    def fork(self, name: str) -> Stream:
        """An independent stream for each image, identified by ``name``, at the same point of its sequence."""
        if name not in _FORKS:
            _FORKS[name] = seed_of(name) & 0xFFFFFFFF
        return Stream(_scramble((self.seeds & 0xFFFFFFFF) ^ _FORKS[name]) ^ (self.seeds << 7), self.calls)

    def moment(self, number: int | Tensor) -> Stream:
        """The same streams at moment ``number`` >= 0, an int or one for each image, int64 (N,).

        Moment 0 is the start. The moments of an image are independent of each other.
        """
        if isinstance(number, int):  # filled on the device, not copied to it
            number = torch.full((), number, device=self.seeds.device)
        mixed = _scramble(_scramble(number & 0xFFFFFFFF) ^ ((self.seeds >> 31) & _MASK)) << 21
        return Stream(self.seeds ^ mixed * (number > 0))

    def repeat(self, n: int) -> Stream:
        """``n`` independent streams per image, image-major: (N,) -> (N * n,), as `Tensor.repeat_interleave` does."""
        draws = torch.arange(n, device=self.seeds.device)
        # Draw 0 keeps the image's own seed, so it is the same for every number of draws.
        forked = self.seeds[:, None] ^ (_scramble(draws * 0x9E3779B1 & 0xFFFFFFFF) << 20) * (draws > 0)
        return Stream(forked.flatten(), self.calls)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """float32 in [0, 1), shape (N, ...); each call advances the stream."""
        return self._uniform(shape, self._positions(shape))

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32, shape (N, ...); each call advances the stream (Box-Muller)."""
        positions = self._positions(shape)
        radius = torch.log((self._bits(shape, positions) + 1).to(torch.float32) * 2.0**-24).mul_(-2).sqrt_()
        return radius * torch.cos(self._uniform(shape, positions) * (2 * math.pi))

    def _uniform(self, shape: tuple[int, ...], positions: Tensor) -> Tensor:
        return self._bits(shape, positions).to(torch.float32).mul_(2.0**-24)

    def _positions(self, shape: tuple[int, ...]) -> Tensor:
        """Where each element of an image is, scrambled: int64 (C * ...,)."""
        if not shape or shape[0] != len(self):
            raise ValueError(f"shape {shape} does not start with the number of images, {len(self)}")
        return _scramble(torch.arange(math.prod(shape[1:]), device=self.seeds.device) + 0x632BE5AB)

    def _bits(self, shape: tuple[int, ...], positions: Tensor) -> Tensor:
        """24 random bits per element, int64."""
        self.calls += 1
        call = _scramble(self.calls + 0x1B873593)
        low = _scramble((self.seeds & 0xFFFFFFFF) ^ call)
        high = _scramble(((self.seeds >> 32) & _MASK) ^ low)
        bits = _scramble(_scramble(positions[None] ^ low[:, None]) ^ high[:, None])
        return (bits >> 8).view(shape)
