"""How differently a system treats the clients of a federation.

Each client counts once, however many images it has: a hospital is not less of a hospital for being small.

- ``mean``: unweighted mean over clients.
- ``worst``: the worst-served client's figure, which agnostic federated learning maximises (Mohri et al. 2019, arXiv
  1902.00146); the smallest, since all figures here are shares of right answers.
- ``spread``: best minus worst. ``std``: standard deviation over these clients (no sample correction). Uniform
  accuracy is what q-FFL calls fair (Li et al. 2020, arXiv 1905.10497).

With few patients per client the worst figure and the spread are noisy, and both are biased: of several equally well
served clients one is always the worst by chance. Compare them between strategies on the same images, not with zero.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping

#: Shares of right answers: clean or under attack; accuracy (plain or balanced), sensitivity or specificity.
FIGURE = re.compile(r"(clean|robust)_(balanced_)?(accuracy|sensitivity|specificity)")


def worst_client(per_client: Mapping[str, Mapping[str, float | None]]) -> str | None:
    """The client with the lowest robust accuracy; None where no client has that figure."""
    robust = {
        client: figures["robust_accuracy"] for client, figures in per_client.items() if "robust_accuracy" in figures
    }
    return min(robust, key=lambda client: (robust[client] or 0.0, client), default=None)


def between(per_client: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | str]]:
    """``mean``, ``worst``, ``worst_client``, ``spread``, ``std`` and ``clients`` (how many) of each figure.

    A client without the figure, such as a sensitivity without lesions, is left out of it; a figure that fewer than two
    clients have is left out itself.

    Args:
        per_client: figures in [0, 1] by name, for each client by name.
    """
    names = dict.fromkeys(name for figures in per_client.values() for name in figures if FIGURE.fullmatch(name))
    found: dict[str, dict[str, float | str]] = {}
    for name in names:
        values = {
            client: value for client, figures in sorted(per_client.items()) if (value := figures.get(name)) is not None
        }
        if len(values) < 2:
            continue
        worst = min(values, key=lambda client: values[client])
        found[name] = {
            "mean": statistics.fmean(values.values()),
            "worst": values[worst],
            "worst_client": worst,
            "spread": max(values.values()) - values[worst],
            "std": statistics.pstdev(values.values()),
            "clients": len(values),
        }
    return found
