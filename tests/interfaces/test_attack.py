"""The margin: best wrong logit minus the true one."""

from __future__ import annotations

import torch

from robustbench_med import margin


def test_the_margin_is_positive_exactly_where_the_answer_is_wrong() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [5.0, 0.0, -1.0]])
    y = torch.tensor([1, 2, 0])
    assert margin(logits, y).tolist() == [-1.0, 1.0, -5.0]
    draws = torch.stack([logits, 2 * logits], 1)  # (N, D, K)
    assert margin(draws, y).tolist() == [[-1.0, -2.0], [1.0, 2.0], [-5.0, -10.0]]


def test_its_gradient_raises_one_wrong_logit_and_lowers_the_true_one() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0]], requires_grad=True)  # Two wrong classes are equally likely.
    margin(logits, torch.tensor([0])).sum().backward()
    assert sorted(logits.grad.flatten().tolist()) == [-1.0, 0.0, 1.0]
    assert logits.grad[0, 0] == -1
