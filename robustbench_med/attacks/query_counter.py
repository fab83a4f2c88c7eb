"""Counts what an attack spends: passes per image; also the best image so far, and figures of the gradients.

Nothing here is read back from the device while the attack runs, unless a budget has to be enforced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustbench_med.errors import BudgetExceeded
from robustbench_med.interfaces.attack import margin
from robustbench_med.interfaces.threat import Budget, ThreatModel

#: What is counted for each image.
_COUNTS = ("queries", "gradients", "zero", "broken", "backward_calls")


class QueryCounter:
    """Counts an attack's passes per image, enforces its budget, and keeps the best image so far.

    Args:
        x: clean images, (N, C, H, W).
        y: their labels, as the attack sees them, int64 (N,).
        threat: norm and eps; images outside are never kept.
        budget: what may be spent on one image.
        watch: also keep the figures that diagnostics need.
        truth: the labels as they are, int64 (N,); None: as the attack sees them.

    Attributes:
        queries, gradients: int64 (N,), forward and backward passes; each noise draw counts.
        exhausted: the budget ran out.
        first, top: float (N,), margin at the first pass and the highest so far; -inf before the first.
        zero, broken: int64 (N,), gradients that were all zero, and gradients with values that are not finite.
        backward_calls: int64 (N,).
        probabilities: bool, every output so far was a probability vector.
        spread: largest minus smallest logit, mean over the first pass.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        budget: Budget,
        watch: bool = True,
        truth: Tensor | None = None,
    ) -> None:
        n, device = len(x), x.device
        self.x, self.y, self.threat, self.budget, self.watch = x, y, threat, budget, watch
        self.truth = y if truth is None else truth
        self.limited = budget.gradients is not None or budget.queries is not None
        self.exhausted = False
        self.queries, self.gradients, self.zero, self.broken, self.backward_calls = (
            torch.zeros(n, dtype=torch.int64, device=device) for _ in range(5)
        )
        self.first, self.top = (torch.full((n,), -torch.inf, device=device) for _ in range(2))
        self.probabilities = torch.ones((), dtype=torch.bool, device=device)
        self.spread: Tensor | None = None
        self._unseen = True  # some image may have had no pass
        # The most passes that any image can have had; the true number is read back only where this reaches the limit.
        self._most = {"queries": 0, "gradients": 0}
        self.best = x.clone() if self.limited else x
        self.best_margin = torch.full((n,), -torch.inf, device=device)

    def forward(self, rows: Tensor, passes: int, distinct: bool = True) -> Tensor:
        """Count forward passes of the images ``rows``; return how many each had before, int64 like ``rows``.

        ``distinct``: no image is named twice.

        Raises:
            BudgetExceeded: an image has had all the passes it is allowed; none is made then.
        """
        before = self.queries[rows]
        self._count("queries", rows, passes, distinct)
        return before

    def backward(self, rows: Tensor, passes: int, grad: Tensor, distinct: bool = True) -> None:
        """Count backward passes of the images ``rows``, whose gradient is ``grad`` (M, C, H, W)."""
        self._count("gradients", rows, passes, distinct)
        if self.watch:
            # One pass over the gradient: a sum of magnitudes is 0 only where all are 0, and finite only where all are.
            size = torch.linalg.vector_norm(grad.flatten(1), 1, dim=1)
            self.backward_calls.index_add_(0, rows, torch.ones_like(rows))
            self.zero.index_add_(0, rows, (size == 0).long())
            self.broken.index_add_(0, rows, (~size.isfinite()).long())

    def _count(self, name: str, rows: Tensor, passes: int, distinct: bool) -> None:
        """Add ``passes`` for the images ``rows``, which may name an image several times, unless a limit is passed."""
        limit: int | None = getattr(self.budget, name)
        counts: Tensor = getattr(self, name)
        more = torch.full_like(rows, passes)
        if limit is not None and len(rows):
            self._most[name] += passes if distinct else passes * len(rows)
            if self._most[name] > limit:
                self._most[name] = int(counts.index_add(0, rows, more).max())
                if self._most[name] > limit:
                    self.exhausted = True
                    called = "forward passes" if name == "queries" else name
                    raise BudgetExceeded(f"the attack wants more than {limit} {called} per image")
        counts.index_add_(0, rows, more)

    def saved(self, images: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Facts and tensors from which `restore` restores this counter, with the attack's ``images``."""
        spread = None if self.spread is None else float(self.spread)
        facts = {"exhausted": self.exhausted, "probabilities": bool(self.probabilities), "spread": spread}
        return facts, {"images": images, **{name: getattr(self, name) for name in (*_COUNTS, "first", "top")}}

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take the state of the counter of an earlier attack."""
        device = self.x.device
        for name in (*_COUNTS, "first", "top"):
            setattr(self, name, tensors[name].to(device))
        self.exhausted = facts["exhausted"]
        self.probabilities = torch.tensor(facts["probabilities"], device=device)
        self.spread = None if facts["spread"] is None else torch.tensor(facts["spread"], device=device)

    def repeat(self, rows: Tensor, other: QueryCounter) -> None:
        """Add what a second attack on the images ``rows`` spent, and take its margins, from the counter ``other``."""
        for name in _COUNTS:
            getattr(self, name).index_add_(0, rows, getattr(other, name))
        self.first[rows], self.top[rows] = other.first, other.top
        self.exhausted |= other.exhausted

    @torch.no_grad()
    def record(self, rows: Tensor, x: Tensor, logits: Tensor, distinct: bool = True) -> None:
        """Record the logits (M, K) of images ``x`` (M, C, H, W), variants of the images ``rows``."""
        if not (self.watch or self.limited) or not len(rows):
            return
        now = margin(logits, self.y[rows]).float()
        free = not (now.is_cuda or torch.compiler.is_compiling())  # a look at values costs nothing
        if self.watch:
            if self._unseen:
                before = self.first[rows]
                self.first[rows] = torch.where(before.isneginf(), now, before)
                self._unseen = not free or bool(self.first.isneginf().any())
            self.top.scatter_reduce_(0, rows, now.nan_to_num(-torch.inf), "amax")
            if not free or self.probabilities:
                sums = (logits.sum(1) - 1).abs() < 1e-4
                self.probabilities &= (sums & (logits.amin(1) >= 0)).all()
            if self.spread is None:
                self.spread = (logits.amax(1) - logits.amin(1)).mean()
        if self.limited:
            self._keep_best(rows, x, now, distinct)

    def _keep_best(self, rows: Tensor, x: Tensor, now: Tensor, distinct: bool) -> None:
        # Rounding takes most images on the sphere a little out of it; the harness projects what is returned.
        now = torch.where(self.threat.allows(x, self.x[rows]), now, -torch.inf)
        before = self.best_margin[rows]
        self.best_margin.scatter_reduce_(0, rows, now, "amax")
        # A batch may hold several variants of an image: only the best of them replaces it.
        won = (now > before) & (now == self.best_margin[rows])
        if distinct:  # nothing waits for the device
            self.best[rows] = torch.where(won.view(-1, *[1] * (x.dim() - 1)), x, self.best[rows])
        else:
            self.best[rows[won]] = x[won]
