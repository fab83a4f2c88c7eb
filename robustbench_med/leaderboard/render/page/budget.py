"""What attackers might spend on a system that draws noise: with less than reviewers ask for, a figure is a bound."""

from __future__ import annotations

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.pool import cells

#: Noise draws that a gradient should average over, and queries that an attack without gradients should have.
DRAWS, QUERIES = 20, 1000
RANDOMIZED = "randomized test-time"


def spent(entry: Entry) -> str:
    """The budget of the attackers, and whether more of it may lower the worst case; "" for a system without noise."""
    ran = [rung for rung in entry.rungs if rung.withstanding is not None]
    if entry.track != RANDOMIZED or not ran:
        return ""
    own = [rung.eot or 1 for record in cells(entry.records) for rung in record.attack.rungs]
    draws = max(own or [record.eot or 1 for record in cells(entry.records)])
    gradients = max(rung.gradients for rung in ran)
    queries = max((rung.queries for rung in ran if not rung.gradients), default=0.0)
    told = (
        f"Budget: a gradient averages over at most {plural(draws, 'noise draw')} (EOT); an attacker spends at most "
        f"{gradients:,.0f} gradients on an image, without gradients {f'{queries:,.0f}' if queries else 'no'} queries."
    )
    if draws >= DRAWS and queries >= QUERIES:
        return told
    return (
        f"{told} That is less than the {DRAWS} draws and {QUERIES:,} queries that should be spent on a randomized "
        "defense, so that the worst case is an upper bound: a larger budget may lower it further."
    )
