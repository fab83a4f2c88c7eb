"""JPEG compression in torch: the same pixels as libjpeg, with a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rbmed_purifiers.bounded import bounded
from rbmed_purifiers.classical.filter import DecreasingParams, Filter, constant


def _numbers(text: str) -> tuple[tuple[int, ...], ...]:
    """A table, one row a line."""
    return tuple(tuple(map(int, line.split())) for line in text.strip().splitlines())


#: Quantisation tables of ITU-T T.81, Annex K, for quality 50.
LUMINANCE = _numbers("""
    16  11  10  16  24  40  51  61
    12  12  14  19  26  58  60  55
    14  13  16  24  40  57  69  56
    14  17  22  29  51  87  80  62
    18  22  37  56  68 109 103  77
    24  35  55  64  81 104 113  92
    49  64  78  87 103 121 120 101
    72  92  95  98 112 100 103  99
""")
CHROMINANCE = _numbers("""
    17  18  24  47  99  99  99  99
    18  21  26  66  99  99  99  99
    24  26  56  99  99  99  99  99
    47  66  99  99  99  99  99  99
    99  99  99  99  99  99  99  99
    99  99  99  99  99  99  99  99
    99  99  99  99  99  99  99  99
    99  99  99  99  99  99  99  99
""")
#: The DCT-II of 8 values in 1/8192, orthonormal but for a factor of the square root of 8: the left half of each row.
#: The right half mirrors it, with opposite sign in odd rows. Some entries are sums of rounded ones and differ by 1 from
#: the nearest whole number, as in libjpeg's integer arithmetic.
DCT = _numbers("""
     8192   8192   8192   8192
    11363   9633   6437   2260
    10703   4433  -4433 -10703
     9633  -2259 -11362  -6436
     8192  -8192  -8192   8192
     6437 -11362   2261   9633
     4433 -10704  10704  -4433
     2260  -6436   9633 -11363
""")
#: R, G, B -> Y, Cb, Cr in 1/65536 (JFIF 1.02), without the offset of 128 on the last two; and back.
TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
FROM_YCC = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))


class JPEG(Filter):
    """Compress and decompress (Guo et al. 2018, 1711.00117), as libjpeg with its defaults does.

    Quality falls linearly from ``quality_max`` to ``quality_min`` with strength, rounded to a whole number. Three
    channels are RGB, and their chroma is subsampled (4:2:0); with any other number, each channel is coded as a grey
    image. The forward pass rounds exactly; only its derivative is replaced. It is computed in float64, because a
    coefficient half-way between two values must not be rounded by the noise of the batch's arithmetic.

    With ``gradient=straight``, as `bpda` assumes, an attack spends its budget on coefficients that are rounded away:
    several times as many images stay robust as with ``soft``.
    """

    class Params(DecreasingParams):
        quantity: ClassVar[str] = "quality"

        quality_max: int = Field(100, ge=1, le=100, description="libjpeg quality at strength 0.")
        quality_min: int = Field(25, ge=1, le=100, description="libjpeg quality at strength 1.")
        gradient: Literal["soft", "straight"] = Field(
            "soft",
            description="Derivative of rounding a DCT coefficient: soft is 3 d^2 at distance d from the rounded value "
            "(Shin & Song 2017), straight is 1; pixels are rounded straight-through.",
        )

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Compressed images; ``x`` is first rounded to 8 bits."""
        pixels = _straight(x.double() * 255, _round)
        quality = self.params.at(strength)
        luminance, chrominance = (_table(base, quality) for base in (LUMINANCE, CHROMINANCE))
        if x.shape[1] != 3:
            return (self._coded(pixels, luminance) / 255).to(x.dtype)
        offset = constant([0.0, 128.0, 128.0], pixels).view(3, 1, 1)
        # 2 ** -23 of 128 is 1/65536: halves of Cb and Cr are rounded down.
        ycc = bounded(_straight(_mixed(pixels, TO_YCC) + offset * (1 - 2**-23), _round), 0, 255)
        y = self._coded(ycc[:, :1], luminance)
        chroma = _doubled(self._coded(_halved(ycc[:, 1:]), chrominance), x.shape[-2:])
        rgb = _straight(_mixed(torch.cat([y, chroma], 1) - offset, FROM_YCC), _round)
        return (bounded(rgb, 0, 255) / 255).to(x.dtype)

    def _coded(self, planes: Tensor, table: Tensor) -> Tensor:
        """Planes (N, C, H, W) of whole numbers 0..255 after quantisation of their 8 x 8 DCT by ``table`` (N, 8, 8)."""
        height, width = planes.shape[-2:]
        padded = F.pad(planes - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
        blocks: Tensor = padded.reshape(*planes.shape[:2], padded.shape[2] // 8, 8, -1, 8).transpose(3, 4)
        dct, steps = _dct(planes), table[:, None, None, None]
        # libjpeg works in whole numbers, and rounds after each dimension: to a quarter, to an eighth of a coefficient.
        rows = _straight(blocks @ dct.T * 4, _round) / 4
        levels = _straight(dct @ rows, _round) / (8 * steps)
        levels = _soft(levels) if self.params.gradient == "soft" else _straight(levels, _nearest)
        columns = _straight(dct.T @ (levels * steps) * 4, _round) / 4
        decoded = _straight(columns @ dct / 8, _round) + 128
        return bounded(decoded.transpose(3, 4).reshape(padded.shape)[..., :height, :width], 0, 255)


def _dct(like: Tensor) -> Tensor:
    """The matrix of the DCT, (8, 8), orthonormal but for a factor of the square root of 8."""
    left = constant(DCT, like) / 8192
    return torch.cat([left, left.flip(1) * constant([1, -1], like).repeat(4)[:, None]], 1)


def _table(base: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Quantisation steps of each image, (N, 8, 8), scaled as libjpeg scales them."""
    quality = quality.double().view(-1, 1, 1)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((constant(base, quality) * scale + 50) / 100).floor().clamp(1, 255)


def _mixed(planes: Tensor, weights: tuple[tuple[int, ...], ...]) -> Tensor:
    return torch.einsum("oc,nchw->nohw", constant(weights, planes) / 65536, planes)


def _halved(planes: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; libjpeg rounds them down and up alternately, and pads the width to whole blocks first."""
    height, width = planes.shape[-2:]
    means = F.avg_pool2d(F.pad(planes, (0, -width % 16, 0, height % 2), mode="replicate"), 2)
    bias = torch.arange(means.shape[-1], device=planes.device) % 2 / 4 + 0.25
    return _straight(means, lambda exact: (exact + bias).floor())


def _doubled(planes: Tensor, size: torch.Size) -> Tensor:
    """Twice as wide and high by linear interpolation, cropped to ``size``; the rounding is libjpeg's."""
    height, width = size
    planes = planes[..., : (height + 1) // 2, : (width + 1) // 2]
    larger = F.interpolate(planes, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    bias = 0.5 - torch.arange(width, device=planes.device) % 2 / 16
    return _straight(larger, lambda exact: (exact + bias).floor())


#: Rounding tolerance: values this close below a half count as a half.
_TIE = 1e-9


def _round(values: Tensor) -> Tensor:
    """Nearest whole numbers, halves up."""
    return (values + (0.5 + _TIE)).floor()


def _nearest(values: Tensor) -> Tensor:
    """Nearest whole numbers, halves away from zero."""
    return values.sign() * _round(values.abs())


def _straight(values: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
    """``rounding(values)``, with derivative 1."""
    return rounding(values.detach()) + (values - values.detach())


def _soft(values: Tensor) -> Tensor:
    """Nearest whole numbers, with the derivative of ``round(v) + (v - round(v)) ** 3``."""
    rounded = _nearest(values).detach()
    cubic = (values - rounded) ** 3
    return rounded + (cubic - cubic.detach())
