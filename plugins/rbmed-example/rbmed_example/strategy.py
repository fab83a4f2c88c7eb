"""Local steps and plain averages."""

from collections.abc import Callable, Mapping

import torch

import robustbench_med as rbmed


class Example(rbmed.Strategy):
    """In each round every client takes one step on its own images, and the states are averaged."""

    class Params(rbmed.Params):
        """Parameters of the strategy."""

        rounds: int = rbmed.Field(3, ge=1, description="Rounds.")
        lr: float = rbmed.Field(0.05, gt=0, description="Learning rate of the clients.")

    def train(
        self, build: Callable[[], rbmed.Learner], clients: Mapping[str, rbmed.Split], job: rbmed.TrainJob
    ) -> rbmed.Federated:
        """One state for all clients; a client's images are used in its own step only."""
        model = build().to(job.device)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        history: list[dict[str, float]] = []
        with job.progress.task("training", self.params.rounds) as bar:
            for number in range(1, self.params.rounds + 1):
                losses, states = [], []
                for split in clients.values():
                    model.load_state_dict(state)
                    optimizer = torch.optim.SGD(model.parameters(), self.params.lr)
                    loss = model.loss(split.images.to(job.device), split.labels.to(job.device))
                    torch.autograd.backward(loss, inputs=list(model.parameters()))
                    optimizer.step()
                    optimizer.zero_grad()
                    losses.append(loss.item())
                    states.append({name: value.clone() for name, value in model.state_dict().items()})
                for name, value in state.items():
                    state[name] = torch.stack([each[name] for each in states]).double().mean(0).to(value)
                history.append({"round": number, "loss": sum(losses) / len(losses)})
                bar.advance(note=f"loss {history[-1]['loss']:.3f}")
        return rbmed.Federated(shared=state, history=history)
