"""The ClientApp: a client's local round, from the server's message to the reply. The same under every engine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from torch import Tensor

from rbmed_fl.byzantine import parse_byzantine
from rbmed_fl.checkpoint import ClientStore
from rbmed_fl.faults import Fault, absence, parse_faults
from rbmed_fl.local_training import LocalRound, accuracy, isolated_randomness
from rbmed_fl.privacy import clip_mod, parse_privacy
from rbmed_fl.secure_aggregation import parse_secure_aggregation, secure_mod
from rbmed_fl.states import State, add_prefix, strip_prefix, to_cpu, to_record, to_state
from rbmed_fl.task import TrainingTask
from robustbench_med import Classifier, seed_of
from robustbench_med.errors import RbmedError

#: Images (N, C, H, W) in [0, 1] and labels (N,) of the client with this partition id.
OpenData = Callable[[int], tuple[Tensor, Tensor]]
OpenStore = Callable[[int], ClientStore]


def client_app(task: TrainingTask, open_data: OpenData, open_store: OpenStore) -> ClientApp:
    """The clients' code. Only this code reads images and labels.

    Args:
        task: what is trained.
        open_data: called with the client's partition id, in the client's process.
        open_store: likewise.
    """
    app = ClientApp(mods=_mods(task))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        began = time.perf_counter()
        index = int(context.node_config["partition-id"])
        config, received = message.content.config_records["config"], message.content.array_records["arrays"]
        figures = {name: float(value) for name, value in config.items() if isinstance(value, int | float)}
        number = int(figures["rounds-before"] + figures["server-round"])
        name, store = task.clients[index], open_store(index)
        faults = parse_faults(task.strategy.params.faults)
        fault = faults.draw(task.seed, name, number) if faults else None
        if fault == "dropout":
            return absence(message, index, fault)
        images, labels = (part.to(task.device) for part in open_data(index))
        generator = torch.Generator(task.device).manual_seed(seed_of(task.seed, "client", name, number))
        local_round = LocalRound(name, images, labels, number, generator, store.load(number - 1), figures)
        sent, measured = _train(task, index, local_round, task.initial | to_state(received, task.initial), fault)
        store.save(number, to_cpu(local_round.client_state))
        if fault == "late":
            return absence(message, index, fault)
        reply = to_record(sent)
        metrics: dict[str, int | float | list[int] | list[float]] = {
            "partition-id": index,
            "num-examples": len(labels),
            **measured,
            "seconds": time.perf_counter() - began,
            "bytes-received": received.count_bytes(),
            "bytes-sent": reply.count_bytes(),
        }
        return Message(RecordDict({"arrays": reply, "metrics": MetricRecord(metrics)}), reply_to=message)

    return app


def _mods(task: TrainingTask) -> list[Any]:
    """What changes a reply on its way out, the last first."""
    params = task.strategy.params
    privacy, secure = parse_privacy(params.privacy), parse_secure_aggregation(params.secure_aggregation)
    mods: list[Any] = [secure_mod(task, secure, privacy is not None)] if secure else []
    return [*mods, clip_mod] if privacy else mods


def _train(
    task: TrainingTask, index: int, local_round: LocalRound, start: State, fault: Fault | None
) -> tuple[State, dict[str, float]]:
    """One local round from the state ``start``, which changes ``local_round.client_state``.

    Returns:
        The state that is sent, and loss and (of a classifier) accuracy.
    """
    strategy = task.strategy
    behaviour, faults = parse_byzantine(strategy.params.malicious, task.clients), parse_faults(strategy.params.faults)
    byzantine = index in behaviour.clients
    if byzantine:
        local_round = behaviour.poison_data(local_round)
    # A copy, so that nothing a client does to the module reaches the next client.
    classifier = copy.deepcopy(task.classifier)
    classifier.load_state_dict(start | strip_prefix("kept", local_round.client_state))
    with isolated_randomness(local_round.generator.initial_seed(), task.device):
        measured = {"loss": strategy.fit(classifier, local_round)}
        sent, kept = task.divide(to_cpu(classifier.state_dict()))
        weights = sent.keys() & task.parameters
        before = {name: start[name] for name in sent if name in weights}
        if byzantine:
            sent |= behaviour.poison_update(before, {name: sent[name] for name in before}, local_round)
        if faults:
            sent |= faults.spoil(fault, before, {name: sent[name] for name in before})
        local_round.client_state.update(add_prefix("kept", kept))
        deployed = strategy.personal(to_cpu(classifier.state_dict()), local_round.client_state)
        classifier.load_state_dict(classifier.state_dict() | deployed)
        if isinstance(classifier, Classifier):  # the learner of a detector or purifier has no accuracy
            measured["accuracy"] = accuracy(classifier, local_round, strategy.params)
    return sent, measured


def reply_or_error(name: str, train: Callable[[], Message], message: Message) -> Message:
    """The reply of a client in a separate process: what ``train`` returns, or one line about its failure.

    By default, Flower replies with a traceback.
    """
    try:
        return train()
    except RbmedError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (the server reports any error)
        reason = f"{type(error).__name__}: {error}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{name}: {reason}"), reply_to=message)
