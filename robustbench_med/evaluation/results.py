"""The records of an evaluation, with what people do with them first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import escape

from robustbench_med.errors import BadParameter
from robustbench_med.evaluation import notebook
from robustbench_med.records import summary
from robustbench_med.records.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.table import Table

PlotKind = Literal["eps", "clients", "saturation"]


@notebook.notices()
def read_results(path: Path | str) -> Results:
    """The records in a folder of results, or in a file of records, such as one of the leaderboard.

    Raises:
        DataError: there are none.
    """
    from robustbench_med.records.folder import open_results

    return Results(open_results(Path(path)))


class Results(list[Record]):
    """The records of an evaluation, one for each cell, in the order in which they were measured.

    It is a list: ``results[0].metrics["robust_accuracy"]``. In a notebook it shows itself as a table.
    """

    def to_frame(self, by: Literal["cell", "client"] = "cell") -> pd.DataFrame:
        """The records as a tidy DataFrame; shares are in [0, 1].

        By cell, one row each. What was measured: ``dataset``, ``dataset_params``, ``synthetic``, ``defense``,
        ``defense_params``, ``strategy``, ``strategy_params``, ``training`` (other options of it), ``train_seed``,
        ``partition``, ``unseen``, ``client`` (empty for all), ``attack``, ``attack_params``, ``norm``, ``eps`` (in
        pixels of [0, 1]), ``goal``, ``finding``, ``access``, ``budget``, ``eot`` and ``draws`` (noise draws of the
        attack and of the scoring), ``role`` (claim, probe, cell), ``seed``. What came out:
        ``status`` (ok, skipped, failed) and ``reason``, ``n`` images of ``patients`` patients, each metric by its name
        (``clean_accuracy``, ``robust_accuracy``, ``robust_sensitivity``, ``detector_auroc``, ...) with the bounds of
        its 95 % interval in ``<metric>_low`` and ``<metric>_high``, ``worst_client`` and its figures, ``seconds``,
        ``cell_id``.

        By client, one row for each client of each measured cell: ``dataset``, ``defense``, ``defense_params``,
        ``attack``, ``attack_params``, ``access``, ``norm``, ``eps``, ``seed``, ``cell_id``, then ``client``,
        ``images``, ``patients`` and the metrics with their bounds.
        """
        from robustbench_med.records.table import clients_to_frame, to_frame

        return to_frame(self) if by == "cell" else clients_to_frame(self)

    def table(self) -> Table:
        """The measured records as a table of rich: ``rich.print(results.table())``."""
        from rich.table import Table
        from rich.text import Text

        headings, rows = summary.table(self, without=("Settings",))
        made = Table()
        for heading in headings:
            made.add_column(heading, justify="right" if heading in summary.FIGURES else "left", overflow="fold")
        for row in rows:
            made.add_row(*map(Text, row))
        return made

    def plot(self, kind: PlotKind = "eps", ax: Axes | None = None) -> Axes:
        """Plot robust accuracy in percent on axes of matplotlib.

        Args:
            kind: ``eps``: against the radius, a line for each defense and attack, clean accuracy at 0; ``clients``: a
                bar for each client with its 95 % interval; ``saturation``: against the gradients that a ladder spent.
            ax: where to draw; by default on a new figure.

        Raises:
            BadParameter: there is no such plot, or nothing to draw in it.
        """
        from robustbench_med.evaluation import plots

        if kind not in plots.KINDS:
            raise BadParameter(f"there is no plot {kind!r}; valid: {', '.join(plots.KINDS)}")
        return plots.draw(kind, [record for record in self if record.status == "ok"], ax)

    def _repr_html_(self) -> str:
        headings, rows = summary.table(self)
        head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
        body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
        skipped = "".join(
            f"<p>{record.status}: {escape(summary.title(record))}: {escape(record.reason or '')}</p>"
            for record in self
            if record.status != "ok"
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{skipped}" if rows else skipped

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Results(found) if isinstance(index, slice) else found

    def where(self, **facts: Any) -> Results:
        """Those whose columns of `to_frame` have these values: ``results.where(attack="apgd", access="full")``.

        Raises:
            BadParameter: there is no such column.
        """
        if not self:
            return Results()
        frame = self.to_frame()
        if missing := [name for name in facts if name not in frame]:
            raise BadParameter(f"there is no column {missing[0]!r}; valid: {', '.join(map(str, frame.columns))}")
        kept: Iterable[bool] = (frame[list(facts)] == list(facts.values())).all(axis=1)
        return Results(record for record, keep in zip(self, kept, strict=True) if keep)
