"""Adam and Yogi on the server (Reddi et al. 2021, arXiv 2003.00295)."""

from __future__ import annotations

import flwr.serverapp.strategy

from rbmed_fl.params import TrainParams
from rbmed_fl.serveropt import AdaptiveStrategy, ParameterMixin
from robustbench_med import Field


class AdamAggregator(ParameterMixin, flwr.serverapp.strategy.FedAdam):
    """Flower's FedAdam, on parameters."""


class FedAdam(AdaptiveStrategy):
    """Adds ``server_lr' m / (sqrt(v) + tau)``, with decaying means m of the mean update and v of its square.

    As in Flower, server_lr' = server_lr sqrt(1 - beta_2^(t+1)) / (1 - beta_1^(t+1)) in round t from 1. Adam itself has
    t in place of t + 1, and the paper has no such factor. A parameter moves by up to about ``server_lr`` in a round.

    The defaults are for a dozen rounds of AdamW clients, whose mean updates have entries of a few thousandths: most
    lie below ``tau``, so that parameters that hardly change stay nearly still. The paper's 0.9 and 0.99 with
    tau = 0.001, chosen for hundreds of rounds and more, learn more slowly here.
    """

    aggregator_class = AdamAggregator

    class Params(TrainParams):
        server_lr: float = Field(0.05, gt=0, description="Longest step of a parameter in a round, about.")
        beta_1: float = Field(0.5, ge=0, lt=1, description="Decay of the mean of updates.")
        beta_2: float = Field(0.9, ge=0, lt=1, description="Decay of the mean of their squares.")
        tau: float = Field(0.02, gt=0, description="Updates well below this take shorter steps, in proportion.")


class YogiAggregator(ParameterMixin, flwr.serverapp.strategy.FedYogi):
    """Flower's FedYogi, on parameters."""


class FedYogi(AdaptiveStrategy):
    """Adds ``server_lr m / (sqrt(v) + tau)``, with a decaying mean m of the mean update d and Yogi's v.

    v moves towards d^2 by (1 - beta_2) d^2, however far it is away: more slowly than Adam's where d grows small.

    The defaults are for a dozen rounds of AdamW clients, whose mean updates have entries of a few thousandths: most
    lie below ``tau``, so that parameters that hardly change stay nearly still. The paper's beta_1 = 0.9 with
    tau = 0.001, chosen for hundreds of rounds and more, learn more slowly here.
    """

    aggregator_class = YogiAggregator

    class Params(TrainParams):
        server_lr: float = Field(0.03, gt=0, description="Longest step of a parameter in a round, about.")
        beta_1: float = Field(0.5, ge=0, lt=1, description="Decay of the mean of updates.")
        beta_2: float = Field(0.99, ge=0, lt=1, description="How slowly v follows the squares.")
        tau: float = Field(0.02, gt=0, description="Updates well below this take shorter steps, in proportion.")
