"""An exponential moving average (EMA) of the weights over a client's steps, deployed in place of the last weights.

In every round clients merge their weights and train on from there, as without it. Each carries its own average on from
round to round, and in the last round it ends with that average: the clients' averages, merged, are the average of what
they would have merged. Morales-Brotons et al. 2024 (arXiv 2411.18704) describe what it does to a training, and that a
learning rate that falls does much of the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rbmed_fl.params import TrainParams
from rbmed_fl.states import add_prefix, strip_prefix, to_cpu

if TYPE_CHECKING:
    from rbmed_fl.local_training import LocalRound


class WeightAverage(AveragedModel):
    """The average of a model's weights and buffers, such as batch-norm statistics; at first those after the first step.

    The decay of step n is at most (1 + n) / (10 + n), as in TensorFlow and diffusers, so that the average of a short
    training is not mostly its beginning.

    Args:
        model: is copied.
        decay: per step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=self._step, use_buffers=True)
        self.decay = decay

    def _step(self, averages: Any, values: Any, _: Any) -> None:
        done = int(self.n_averaged)  # a number on the CPU: a device is not waited for
        step = get_ema_multi_avg_fn(min(self.decay, (1 + done) / (10 + done)))  # type: ignore[no-untyped-call]
        step(averages, values, done)


@contextmanager
def averaged(
    model: nn.Module, local_round: LocalRound, params: TrainParams, name: str = "ema"
) -> Iterator[Callable[[], None]]:
    """A training of ``model``, in place, in one local round; call what it gives after each step.

    With ``params.ema`` the average is kept in the client's state, and after the last round it is the model.

    Args:
        model: on the local round's device.
        local_round: of the client.
        params: of the strategy.
        name: of the average, if a client trains several models.
    """
    if not params.ema:
        yield lambda: None
        return
    average = WeightAverage(model, params.ema)
    if before := strip_prefix(name, local_round.client_state):
        average.load_state_dict(before)
    yield lambda: average.update_parameters(model)
    local_round.client_state.update(add_prefix(name, to_cpu(average.state_dict())))
    if local_round.number == params.rounds:
        model.load_state_dict(average.module.state_dict())
