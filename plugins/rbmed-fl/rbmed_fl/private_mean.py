"""The server's side of `rbmed_fl.privacy`."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as Aggregator
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from rbmed_fl.flower_grid import Merged
from rbmed_fl.privacy import ClientPrivacy, add_noise
from rbmed_fl.screening import Wrapped
from robustbench_med import seed_of

#: Replies of a secure sum say here how many clients are in it.
CLIENTS = "clients"
_EQUAL = "equal"


class PrivateMean(Wrapped):
    """Wraps one of Flower's strategies: it gets the noisy mean of the replies as its only reply.

    Flower's own wrapper adds noise to what the strategy returns, to which the clients' bound does not apply where the
    server takes a step of its own, and it merges no round in which a client is missing.

    Args:
        inner: takes the server's step.
        privacy: bound and noise.
        seed: of the training.
    """

    def __init__(self, inner: Aggregator, privacy: ClientPrivacy, seed: int) -> None:
        super().__init__(inner)
        self._privacy = privacy
        self._seed = seed
        self._before = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Flower's strategy."""
        config[KEY_CLIPPING_NORM] = self._privacy.clipping
        self._before = int(str(config["rounds-before"]))
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Merged:
        """See Flower's strategy; every client counts the same, whatever its number of images."""
        replies = list(replies)
        clients = 0
        for reply in replies:
            metrics = reply.content.metric_records["metrics"]
            metrics[_EQUAL] = 1
            clients += int(str(metrics.get(CLIENTS, 1)))
        mean = aggregate_arrayrecords([reply.content for reply in replies], _EQUAL)
        noisy = {name: mean[name].numpy() for name in sorted(mean)}  # after an interruption they come in another order
        add_noise(noisy, self._privacy, clients, seed_of(self._seed, self._before + server_round))
        arrays = ArrayRecord({name: Array(value) for name, value in noisy.items()})
        replies[0].content = RecordDict({"arrays": arrays, "metrics": replies[0].content.metric_records["metrics"]})
        return self.inner.aggregate_train(server_round, replies[:1])
