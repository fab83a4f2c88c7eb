"""The AutoAttack ensemble, adapted to the number of classes (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.apgd import APGD
from rbmed_attacks.budget import look, too_small
from rbmed_attacks.fab import FAB
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.square import Square
from robustbench_med import Attack, Budget, Field, Stream, TargetModel, ThreatModel, margin

#: Steps and queries of the published ensemble.
PUBLISHED = (100, 5000)


class AutoAttack(rbmed.Attack):
    """Several attacks one after the other, chosen for the number of classes K; Linf, L2 and L1, K >= 2 classes.

    K = 2: APGD-margin, APGD-CE, FAB, Square. K = 3: APGD-CE, APGD-DLR, targeted APGD-margin, FAB-T, Square. K >= 4:
    APGD-CE, targeted APGD-DLR, FAB-T, Square, against at most 9 of the K - 1 wrong classes; with K >= 10 in Linf
    and L2 this is the published standard version. Version ``early``: where the target model shows the deployed
    decision, a run ends early for an image that it would not break at twice its latest pace, see
    `rbmed_attacks.giving_up`. On random models: APGD-CE and APGD-DLR (K = 2: APGD-margin), which average the gradient
    over the noise draws. `variant` names what runs. Reference: Croce & Hein, "Reliable evaluation of adversarial
    robustness with an ensemble of diverse parameter-free attacks", ICML 2020, arXiv:2003.01690.

    Attributes:
        eot: noise draws to average where the target model is random; None for version ``standard``.

    Raises:
        BudgetExceeded: the budget does not allow any of the attacks a single step.
    """

    class Params(rbmed.Params):
        """Parameters of the ensemble; the defaults are the published ones."""

        version: Literal["auto", "standard", "rand", "early"] = Field(
            "auto",
            description="rand: for random models; auto: rand where the model averages several noise draws, "
            "early: runs end early for images without prospects.",
        )
        steps: int = Field(PUBLISHED[0], ge=1, description="Gradient steps of each run of APGD and FAB.")
        queries: int = Field(PUBLISHED[1], ge=1, description="Queries of Square.")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.eot: int | None = None if self.params.version == "standard" else 20

    def variant(self, num_classes: int, norm: str, random: bool = False) -> str:
        """What runs: ``aa-standard``, ``aa-adapted-K2``, ``aa-rand``, ...

        ``aa-standard`` and ``aa-rand`` are the published versions. ``adapted``: the attacks are chosen for few classes
        (or for L1, where the published APGD first searches larger balls). ``custom``: steps or queries are not the
        published ones. ``random``: the target model is random and averages several noise draws.
        """
        p, rand = self.params, self._rand(random)
        kind = "aa-rand" if rand else "aa"
        used = (p.steps,) if rand else (p.steps, p.queries)
        if used != PUBLISHED[: len(used)]:
            return f"{kind}-custom-K{num_classes}-" + "-".join(map(str, used))
        if norm != "l1" and (num_classes >= 3 if rand else num_classes >= 10 and p.version != "early"):
            return kind if rand else "aa-standard"
        kind += "-early" if p.version == "early" and not rand else ""
        return f"{kind}-adapted-K{num_classes}" + ("-l1" if norm == "l1" else "")

    def parts(self, num_classes: int, norm: str, random: bool = False) -> dict[str, Attack]:
        """The attacks in their order, by name; arguments as of `variant`."""
        steps = self.params.steps
        stop: Literal["auto", "early"] = "early" if self.params.version == "early" else "auto"
        # In L1 the published ensemble restarts Auto-PGD and targets fewer classes.
        restarts, n_targets = (5, 5) if norm == "l1" else (1, 9)

        def apgd(loss: str, restarts: int = restarts, **more: Any) -> Attack:
            settings = {"loss": loss, "steps": steps, "restarts": restarts, "stop": stop, **more}
            return APGD(APGD.Params.model_validate(settings))

        ce, other = apgd("ce"), "margin" if num_classes == 2 else "dlr"
        if self._rand(random):
            return {"apgd-ce": ce, f"apgd-{other}": apgd(other)}
        fab = FAB(FAB.Params(steps=steps, stop=stop))
        square = Square(Square.Params(queries=self.params.queries))
        if num_classes == 2:
            return {"apgd-margin": apgd("margin"), "apgd-ce": ce, "fab": fab, "square": square}
        toward = "margin" if num_classes == 3 else "dlr"
        return {
            "apgd-ce": ce,
            **({"apgd-dlr": apgd("dlr")} if num_classes == 3 else {}),
            "apgd-t": apgd(toward, restarts=1, targeted=True, n_targets=n_targets),
            "fab-t": FAB(FAB.Params(steps=steps, targeted=True, n_targets=9, stop=stop)),
            "square": square,
        }

    def _rand(self, random: bool) -> bool:
        return self.params.version == "rand" or (self.params.version == "auto" and random)

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``.

        Where the model stops on success, an image that one attack has broken is not attacked again. Elsewhere the
        result with the largest margin over the attacks is returned, which costs one more query for each attack.
        """
        x = x.detach()
        if len(x) == 0:
            return x.clone()
        spent = _Spent(queries=model.draws)  # of the clean images
        if not spent.left(budget, model.draws):
            raise too_small(budget)
        logits = look(model, x)
        counted = _Counted(model, spent)
        best, score = x.clone(), margin(logits, y)
        rows = torch.arange(len(x), device=x.device)
        if model.stop_on_success:
            rows = (logits.argmax(1) == y).nonzero().squeeze(1)
        random = not model.stop_on_success and model.draws > 1
        for name, part in self.parts(logits.shape[1], threat.norm, random).items():
            left = spent.left(budget, model.draws, gradients=name != "square")
            if len(rows) == 0 or left is None:
                continue
            if isinstance(part, Square) and model.stop_on_success and self.params.version == "early":
                part.known = score[rows]
            seen = counted.at(rows) if model.stop_on_success else counted
            found = part.run(seen, x[rows], y[rows], threat, left, rng.fork(name)[rows])
            logits = look(seen, found)
            value = margin(logits, y[rows])
            better = value > score[rows]
            best[rows], score[rows] = choose(better, found, best[rows]), torch.where(better, value, score[rows])
            if model.stop_on_success:
                rows = rows[logits.argmax(1) == y[rows]]
        return best


@dataclass
class _Spent:
    """Passes spent on each image; each noise draw counts."""

    queries: int = 0
    gradients: int = 0

    def left(self, budget: Budget, draws: int, gradients: bool = True) -> Budget | None:
        """The budget of one more attack; None if it does not allow a query, a step, and a query of the result.

        ``gradients``: the attack needs them. One query is kept for evaluating its result.
        """
        queries = None if budget.queries is None else budget.queries - self.queries - draws
        backward = None if budget.gradients is None else budget.gradients - self.gradients
        if (queries is not None and queries < 3 * draws) or (gradients and backward is not None and backward < draws):
            return None
        return Budget(gradients=backward, queries=queries)


class _Counted(TargetModel):
    """The same target model; counts its passes."""

    def __init__(self, model: TargetModel, spent: _Spent) -> None:
        super().__init__()
        self.model, self.spent = model, spent
        self.stop_on_success, self.draws = model.stop_on_success, model.draws

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self._count(x))
        return logits

    def each(self, x: Tensor) -> Tensor:
        return self.model.each(self._count(x))

    def at(self, index: Tensor) -> TargetModel:
        return _Counted(self.model.at(index), self.spent)

    def _count(self, x: Tensor) -> Tensor:
        self.spent.queries += self.draws
        if torch.is_grad_enabled() and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self._count_gradient)  # type: ignore[no-untyped-call]
        return x

    def _count_gradient(self, gradient: Tensor) -> None:
        self.spent.gradients += self.draws
