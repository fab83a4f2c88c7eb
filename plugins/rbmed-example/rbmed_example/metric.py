"""How often an attack succeeds."""

import robustbench_med as rbmed


class Example(rbmed.Metric):
    """Share of the right answers that an attack turns wrong, on the first noise draw."""

    def compute(self, outcome: rbmed.Outcome) -> dict[str, rbmed.Rate | None]:
        """Figures by name; a `Rate` is kept with its interval, None where there is nothing to count."""
        right = outcome.clean.correct(outcome.labels)[0]
        lost = right & ~outcome.attacked.robust(outcome.labels)[0]
        count = int(right.sum())
        return {"example_success": rbmed.Rate(hits=float(lost.sum()), n=count) if count else None}
