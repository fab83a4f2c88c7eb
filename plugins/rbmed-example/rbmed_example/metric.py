"""How often an attack succeeds."""

import robustbench_med as rbmed


class Example(rbmed.Metric):
    """Share of correct predictions that the attack makes wrong, on the first noise draw."""

    def compute(self, outcome: rbmed.Outcome) -> dict[str, rbmed.Rate | None]:
        """Figures by name; a `Rate` is stored with its interval, None where no prediction is correct."""
        correct = outcome.clean.correct(outcome.labels)[0]
        lost = correct & ~outcome.attacked.robust(outcome.labels)[0]
        count = int(correct.sum())
        return {"example_success": rbmed.Rate(hits=float(lost.sum()), n=count) if count else None}
