"""The ClientApp: a client's turn, from the message that asks for it to the reply. The same under every engine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from torch import Tensor

from rbmed_fl.byzantine import malice
from rbmed_fl.client_state import Memory
from rbmed_fl.local_training import Turn, accuracy, own_randomness
from rbmed_fl.states import put, to_cpu, to_record, to_state, under
from rbmed_fl.task import Work
from robustbench_med import Classifier, seed_of
from robustbench_med.errors import RbmedError

#: Images (N, C, H, W) in [0, 1] and labels (N,) of the client with this partition id.
OpenData = Callable[[int], tuple[Tensor, Tensor]]
OpenMemory = Callable[[int], Memory]


def client_app(work: Work, open_data: OpenData, open_memory: OpenMemory) -> ClientApp:
    """The clients' code. Images and labels are reached here and nowhere else.

    Args:
        work: what is trained.
        open_data: called with the client's partition id, in the client's process.
        open_memory: likewise.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        began = time.perf_counter()
        index = int(context.node_config["partition-id"])
        config, received = message.content.config_records["config"], message.content.array_records["arrays"]
        figures = {name: float(value) for name, value in config.items() if isinstance(value, int | float)}
        number = int(figures["rounds-before"] + figures["server-round"])
        memory = open_memory(index)
        turn = _turn(work, index, number, open_data, figures)
        turn.memory.update(memory.recall(number - 1))
        behaviour = malice(work.federation.params.malicious, work.clients)
        if index in behaviour.clients:
            turn = behaviour.poison(turn)

        # A copy: whatever else a client does to the module must not reach the next client.
        classifier = copy.deepcopy(work.classifier)
        start = work.initial | to_state(received, work.initial)
        classifier.load_state_dict(start | under("kept", turn.memory))
        with own_randomness(turn.generator.initial_seed(), work.device):
            loss = work.federation.fit(classifier, turn)
            sent, kept = work.divide(to_cpu(classifier.state_dict()))
            if index in behaviour.clients:
                weights = sent.keys() & work.parameters
                before, after = ({name: state[name] for name in sent if name in weights} for state in (start, sent))
                sent |= behaviour.distort(before, after, turn)
            turn.memory.update(put("kept", kept))
            deployed = work.federation.personal(to_cpu(classifier.state_dict()), turn.memory)
            classifier.load_state_dict(classifier.state_dict() | deployed)
            measured = {}
            if isinstance(classifier, Classifier):  # the learner of a detector or purifier answers nothing
                measured["accuracy"] = accuracy(classifier, turn, work.federation.params)
        memory.keep(number, to_cpu(turn.memory))
        reply = to_record(sent)
        metrics = MetricRecord(
            {
                "partition-id": index,
                "num-examples": len(turn.labels),
                "loss": loss,
                **measured,
                "seconds": time.perf_counter() - began,
                "bytes-received": received.count_bytes(),
                "bytes-sent": reply.count_bytes(),
            }
        )
        return Message(RecordDict({"arrays": reply, "metrics": metrics}), reply_to=message)

    return app


def answer(name: str, turn: Callable[[], Message], message: Message) -> Message:
    """The reply of a client in a process of its own: what ``turn`` returns, or one line on how it failed.

    Left to itself, Flower replies with a traceback.
    """
    try:
        return turn()
    except RbmedError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 (whatever it is, the server has to know)
        reason = f"{type(error).__name__}: {error}"
    reason = f"{name}: {reason}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def _turn(work: Work, index: int, number: int, open_data: OpenData, config: dict[str, float]) -> Turn:
    name = work.clients[index]
    images, labels = (part.to(work.device) for part in open_data(index))
    generator = torch.Generator(work.device).manual_seed(seed_of(work.seed, "client", name, number))
    return replace(Turn(name, images, labels, number, generator), config=config)
