"""``rbmed certify``: certified accuracy beside the accuracy under attack."""

from __future__ import annotations

from typing import Any

from robustbench_med.cli.app import EVALUATION, app
from robustbench_med.cli.commands.run import AsEvents, ReportName, measure
from robustbench_med.cli.options import Config, PluginFiles, Quiet, registry, takes
from robustbench_med.errors import WeightsError

#: What is measured where nothing else is said.
DEFAULTS: dict[str, Any] = {
    "defense": "smoothed:sigma=0.25,copies=4",
    "baseline": None,
    "norm": "l2",
    "eps": [0.25, 0.5],
    "attack": "momentum:steps=20",
    "access": "full",
    "eot": 2,
    "limit": 64,
}


@app.command(rich_help_panel=EVALUATION)
@takes()
def certify(
    options: dict[str, Any],
    config: Config = None,
    report: ReportName = None,
    as_json: AsEvents = False,
    quiet: Quiet = False,
    plugin: PluginFiles = None,
) -> None:
    """Certify defenses by randomized smoothing, attack the same images in the same radii, and print both bounds.

    As `rbmed run --certify`, with other defaults: the defense smoothed, l2 0.25 and 0.5, momentum at full access, 64
    images. Exits with 1 if an attack breaks an image inside its certified radius.
    """
    from robustbench_med.grid.config import build

    known = registry(plugin)
    made = build({**options, "certify": True}, config, DEFAULTS)
    try:
        measure(made, known, report, as_json, quiet)
    except WeightsError as error:
        if made.defense != (DEFAULTS["defense"],):
            raise
        raise WeightsError(
            f"{error}; or smooth without a denoiser, which needs no training: --defense "
            "smoothed:sigma=0.25,denoiser=none (the classifier then sees the noise)"
        ) from None
