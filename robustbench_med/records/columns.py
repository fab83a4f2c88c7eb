"""The columns of a table of records that are no figures of metrics."""

from __future__ import annotations

#: The first columns of every table.
HEAD = (
    *("dataset", "dataset_params", "synthetic", "defense", "defense_params", "strategy", "strategy_params", "training"),
    *("train_seed", "partition", "unseen", "client", "attack", "attack_params", "norm", "eps", "goal", "finding"),
    *("access", "budget", "eot", "draws", "role", "status", "n", "patients", "seed"),
)
#: Names that no figure may have: its column would take the place of one of these.
RESERVED = frozenset({*HEAD, "reason", "worst_client", "seconds", "cell_id"})
