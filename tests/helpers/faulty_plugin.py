"""An attack that misbehaves on request, beside the parts of `toy_plugin`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med import hookimpl

KEPT: list[Tensor] = []


class _Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


def networks(model: rbmed.TargetModel) -> list[nn.Module]:
    """Every pipeline in this process: the copy that is attacked, and what an attack has no business with."""
    kinds = type(model.settings.pipeline)  # type: ignore[attr-defined]
    return [
        found for found in gc.get_objects() if issubclass(type(found), kinds)
    ]  # asking a module for its class may warn


class Faulty(rbmed.Attack):
    """Adds eps; from its call number ``after`` on, it misbehaves."""

    class Params(rbmed.Params):
        """Parameters."""

        how: str = rbmed.Field("well", description="What it does.")
        after: int = rbmed.Field(0, ge=0, description="Calls that go well, counted in the file.")
        file: str = rbmed.Field("", description="File that counts the calls, over all processes.")
        seconds: float = rbmed.Field(0.0, ge=0, description="Seconds that every call takes.")
        times: int = rbmed.Field(10**9, ge=0, description="How many calls go wrong.")

    def run(
        self,
        model: rbmed.TargetModel,
        x: Tensor,
        y: Tensor,
        threat: rbmed.ThreatModel,
        budget: rbmed.Budget,
        rng: rbmed.Stream,
    ) -> Tensor:
        model(x)
        calls = 0
        if self.params.file:
            counter = Path(self.params.file)
            calls = len(counter.read_text()) if counter.is_file() else 0
            with counter.open("a") as file:
                file.write(".")
        time.sleep(self.params.seconds)
        good = x + threat.eps * (rng.uniform(tuple(x.shape)) - 0.5).sign()
        if not self.params.after <= calls < self.params.after + self.params.times:
            return good
        match self.params.how:
            case "raise":
                raise RuntimeError("as\nasked")
            case "hang":
                while True:
                    time.sleep(0.01)
            case "die":
                os.kill(os.getpid(), 9)
            case "interrupt":
                raise KeyboardInterrupt
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case "restless":
                return torch.where(torch.tensor(list(os.urandom(len(x))))[:, None, None, None] % 2 == 0, good, x)
            case "leak":
                KEPT.append(torch.ones(25 * 2**18))  # 25 MiB
            case "nan":
                return good * torch.nan
            case "shape":
                return good[:, :, 1:]
            case "outside":
                return x + 2 * threat.eps
            case "range":
                return good + 2
            case "memory":
                if len(x) > 2:
                    raise MemoryError
            case "meddle":
                torch.set_default_dtype(torch.float64)
                torch.set_grad_enabled(False)
                torch.manual_seed(len(KEPT))
                torch.set_num_threads(2)
                os.chdir("/")
                sys.setrecursionlimit(5000)
                sys.stdout = None  # type: ignore[assignment]
            case "exit":
                raise SystemExit(self.params.times % 7)
            case "close":
                raise GeneratorExit
            case "stop":
                raise StopIteration("early")
            case "group":
                raise BaseExceptionGroup("several", [KeyboardInterrupt()])
            case "cancel":
                raise asyncio.CancelledError
            case "control":
                raise RuntimeError("\x1b[31ma\x00b\u202ec\udc80\r\nd\x9b2J")
            case "mute":
                raise _Mute
            case "weights" | "mode" | "hook" | "weights-and-raise":
                for network in networks(model):
                    network.train(self.params.how == "mode")
                    if self.params.how == "hook":
                        network.register_forward_hook(lambda *_: None)
                    for value in network.parameters() if self.params.how.startswith("weights") else ():
                        value.data.mul_(-1)
                if self.params.how == "weights-and-raise":
                    raise RuntimeError("too late")
            case "none":
                return None  # type: ignore[return-value]
        return good


@hookimpl
def rbmed_attacks() -> Iterator[rbmed.AttackSpec]:
    yield rbmed.AttackSpec(
        name="faulty", target=f"{Faulty.__module__}:Faulty", summary="misbehaves", norms=("linf",), access="gradient"
    )
