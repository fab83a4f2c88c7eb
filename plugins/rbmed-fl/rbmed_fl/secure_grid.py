"""The server's side of `rbmed_fl.secure_aggregation`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import FitIns, NDArrays, Parameters, parameters_to_ndarrays
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow, WorkflowState
from flwr.serverapp import Grid

from rbmed_fl.faults import read_absence
from rbmed_fl.flower_grid import PAUSE, ClientGrid, client_failed, quiet
from rbmed_fl.private_mean import CLIENTS
from rbmed_fl.secure_aggregation import LEVELS, SecAggPlus
from robustbench_med.errors import HarnessError


class SecureGrid(ClientGrid):
    """Runs the protocol for every message of a round, and returns one reply: the clients' mean.

    A client may drop out while it trains. Flower's protocol does not survive one that is lost before, when keys are
    shared.

    Args:
        clients: sends to the clients.
        secure: of the strategy.
        largest: the largest weight of a client.
    """

    def __init__(self, clients: ClientGrid, secure: SecAggPlus, largest: float) -> None:
        vars(self).update(vars(clients))
        self._secure = secure
        self._largest = largest

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """See `ClientGrid`.

        Raises:
            HarnessError: a client failed, or too few were there to the end.
        """
        message = next(iter(messages), None)
        if message is None:
            return []
        config = message.content.config_records["config"]
        number = int(str(config["rounds-before"])) + int(str(config["server-round"]))
        collector = _Collector(list(self._grid.get_node_ids()))
        answers: list[Message] = []
        stages = SimpleNamespace(send_and_receive=lambda stage, timeout: self._stage(list(stage), answers))
        with quiet(logging.CRITICAL):
            _Workflow(message.content, self._secure, self._largest)(cast("Grid", stages), collector.context(number))
        if collector.mean is None:
            needed, total = self._secure.needed(len(self._clients)), len(self._clients)
            raise HarnessError(
                f"secure aggregation needs {needed} of the {total} clients to the end of round {number} "
                f"(threshold={self._secure.threshold:g}), and {len(answers)} were there"
            )
        sent = message.content.array_records["arrays"]
        model = {name: sent[name].numpy() for name in sorted(sent)}
        arrays = {
            name: Array((value + update).astype(value.dtype))
            for (name, value), update in zip(model.items(), collector.mean, strict=True)
        }
        examples = sum(int(str(answer.content.metric_records["metrics"]["num-examples"])) for answer in answers)
        metrics = MetricRecord({"num-examples": examples, CLIENTS: len(answers)})
        answers[0].content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
        return answers[:1]

    def _stage(self, messages: list[Message], answers: list[Message]) -> list[Message]:
        """Exchange the messages of one stage; replies with figures are also added to ``answers``."""
        replies: list[Message] = []
        waiting, last = set(self._grid.push_messages(messages)), time.monotonic()
        while waiting:
            for reply in self._grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
                last = time.monotonic()
                if reply.has_error():
                    if (absent := read_absence(reply.error)) is None:
                        raise client_failed(reply.error)
                    self._on_absence(*absent)
                elif "metrics" in reply.content.metric_records:
                    answers.append(reply)
                    self._on_reply(reply.content)
            if time.monotonic() - last > self._patience:
                break
            if waiting:
                time.sleep(PAUSE)
        return replies


class _Collector:
    """Stands in for what Flower's protocol expects of its older interface: a strategy and a client manager.

    Attributes:
        mean: the mean of the updates, if the protocol came to its end.
    """

    def __init__(self, nodes: list[int]) -> None:
        self.nodes = nodes
        self.mean: NDArrays | None = None

    def context(self, number: int) -> LegacyContext:
        """With this round as the current one, and no parameters: the clients get the round's own message."""
        state = RecordDict(
            {MAIN_CONFIGS_RECORD: ConfigRecord({Key.CURRENT_ROUND: number}), MAIN_PARAMS_RECORD: ArrayRecord()}
        )
        context = Context(run_id=0, node_id=0, node_config={}, state=state, run_config={})
        return LegacyContext(context, strategy=cast("Any", self), client_manager=cast("Any", self))

    def num_available(self) -> int:
        """As a client manager."""
        return len(self.nodes)

    def configure_fit(self, *_: object) -> list[tuple[SimpleNamespace, FitIns]]:
        """As a strategy: every client, in an order of its own."""
        return [(SimpleNamespace(node_id=node), FitIns(Parameters([], ""), {})) for node in self.nodes]

    def aggregate_fit(self, number: int, results: list[Any], failures: object) -> tuple[None, dict[str, Any]]:
        """As a strategy: every result has the mean."""
        self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


class _Workflow(SecAggPlusWorkflow):
    """Flower's protocol, whose clients train on a message of the newer interface."""

    def __init__(self, content: RecordDict, secure: SecAggPlus, largest: float) -> None:
        super().__init__(
            1.0,
            float(secure.threshold),
            max_weight=float(largest),
            clipping_range=float(secure.clipping),
            quantization_range=LEVELS,
        )
        self._content = content

    def setup_stage(self, grid: Grid, context: LegacyContext, state: WorkflowState) -> bool:
        """Agree on keys; then put the round's message where the protocol takes it from."""
        going_on = super().setup_stage(grid, context, state)
        state.nid_to_fitins = {node: RecordDict(dict(self._content)) for node in state.nid_to_fitins}
        return going_on
