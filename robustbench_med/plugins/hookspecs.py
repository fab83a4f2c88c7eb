"""The hooks a plugin may implement, one per kind; each docstring is the kind's tutorial.

A hook takes no arguments and yields specs. Every example is a complete plugin: save it as ``my_plugin.py`` and try it
with ``rbmed -p my_plugin.py list``. A plugin that is installed as a package keeps its hooks in a module of their own
that imports nothing heavy, so that listing it stays fast (docs/plugins.md).

Here are the hooks of an evaluation; those of what is attacked are in `robustbench_med.plugins.part_hookspecs`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from robustbench_med.plugins.part_hookspecs import rbmed_defenses as rbmed_defenses
from robustbench_med.plugins.part_hookspecs import rbmed_detectors as rbmed_detectors
from robustbench_med.plugins.part_hookspecs import rbmed_models as rbmed_models
from robustbench_med.plugins.part_hookspecs import rbmed_purifiers as rbmed_purifiers
from robustbench_med.plugins.part_hookspecs import rbmed_strategies as rbmed_strategies
from robustbench_med.plugins.specs import AttackSpec, DatasetSpec, MetricSpec, ReportSpec

hookspec = pluggy.HookspecMarker("rbmed")


@hookspec
def rbmed_attacks() -> Iterable[AttackSpec]:
    """Offer attacks.

    ``run`` gets clean images in [0, 1] and returns adversarial ones. The harness projects them into the ball, checks
    norm, range and budget, and scores them on the deployed pipeline. Random numbers come from ``rng`` only. Example::

        import torch

        import robustbench_med as rbmed


        class OneStep(rbmed.Attack):
            class Params(rbmed.Params):
                step: float = rbmed.Field(1.0, gt=0, le=1, description="Step length, as a share of eps.")

            def run(self, model, x, y, threat, budget, rng):
                x = x.detach().requires_grad_()
                loss = torch.nn.functional.cross_entropy(model(x), y, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x)
                return threat.project(x.detach() + self.params.step * threat.eps * gradient.sign(), x.detach())


        @rbmed.hookimpl
        def rbmed_attacks():
            yield rbmed.AttackSpec(
                name="one-step", target="my_plugin:OneStep", summary="One signed gradient step", norms=("linf",)
            )
    """


@hookspec
def rbmed_datasets() -> Iterable[DatasetSpec]:
    """Offer data sets.

    ``split`` returns ``train``, ``calibration`` or ``test``, and no patient is in two of them. A data set whose images
    the user supplies declares ``needs_root=True`` and reads the folder ``self.root``. Example::

        import torch

        import robustbench_med as rbmed


        class Squares(rbmed.Dataset):
            class Params(rbmed.Params):
                per_split: int = rbmed.Field(8, ge=2, description="Images in each split.")

            def card(self):
                return rbmed.DataCard(
                    name="squares", classes=("empty", "square"), channels=1, size=16, licence="CC0-1.0",
                    citation="none", digest=f"squares-1-{self.params.per_split}", synthetic=True, lesion_class=1,
                )

            def split(self, name):
                labels = torch.arange(self.params.per_split) % 2
                images = torch.zeros(len(labels), 1, 16, 16)
                images[labels == 1, :, 4:12, 4:12] = 1.0
                patients = tuple(f"{name}-{i}" for i in range(len(labels)))
                return rbmed.Split(images, labels, patients, sites=("a",) * len(labels))


        @rbmed.hookimpl
        def rbmed_datasets():
            yield rbmed.DatasetSpec(
                name="squares", target="my_plugin:Squares", summary="White squares", licence="CC0-1.0", synthetic=True
            )
    """


@hookspec
def rbmed_metrics() -> Iterable[MetricSpec]:
    """Offer metrics.

    ``compute`` gets all per-image results of a cell and returns named figures; a `Rate` is stored with its interval.
    Example::

        import robustbench_med as rbmed


        class SuccessRate(rbmed.Metric):
            def compute(self, outcome):
                correct = outcome.clean.correct(outcome.labels)[0]
                lost = correct & ~outcome.attacked.robust(outcome.labels)[0]
                return {"attack_success_rate": rbmed.Rate(hits=float(lost.sum()), n=int(correct.sum()))}


        @rbmed.hookimpl
        def rbmed_metrics():
            yield rbmed.MetricSpec(
                name="success", target="my_plugin:SuccessRate", summary="Share of correct answers that become wrong"
            )
    """


@hookspec
def rbmed_reports() -> Iterable[ReportSpec]:
    """Offer reports.

    ``render`` turns the table of records, one row a cell, into text. Example::

        import robustbench_med as rbmed


        class Csv(rbmed.Report):
            def render(self, table):
                return rbmed.to_csv(table)


        @rbmed.hookimpl
        def rbmed_reports():
            yield rbmed.ReportSpec(name="csv", target="my_plugin:Csv", summary="Comma-separated values")
    """
