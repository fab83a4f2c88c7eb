"""What this distribution offers; reading it imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med import PurifierSpec, hookimpl


@hookimpl
def rbmed_purifiers() -> Iterator[PurifierSpec]:
    """The purifiers."""
    yield PurifierSpec(
        name="ddpm",
        target="rbmed_purifiers.ddpm:DDPMPurifier",
        summary="Diffusion: noise the image to a time that follows its score, then denoise it in a few DDIM steps",
        reference="Ho et al. 2020, 2006.11239; Nie et al. 2022, 2205.07460; Karami et al. 2025, arXiv:2511.11625",
    )
