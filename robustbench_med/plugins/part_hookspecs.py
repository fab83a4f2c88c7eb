"""The hooks for defenses and their parts, as `robustbench_med.plugins.hookspecs` has those of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from robustbench_med.plugins.specs import DefenseSpec, DetectorSpec, ModelSpec, PurifierSpec, StrategySpec

hookspec = pluggy.HookspecMarker("rbmed")


@hookspec
def rbmed_detectors() -> Iterable[DetectorSpec]:
    """Offer detectors.

    ``score`` returns one number per image, larger meaning more suspicious; the pipeline sets the threshold. ``system``
    holds the client's classifier and purifier. ``error_map`` gives the score's contributions by pixel.

    ``build`` creates the modules. They are trained over the clients: ``learner`` returns a module with a loss, whose
    state has the same names as the detector's, and the strategy in the parameter ``training`` trains it. A detector
    that each client fits by itself overrides ``fit`` and fills buffers that ``build`` has registered. A detector whose
    weights depend on the classifier declares ``needs = ("classifier",)``. Example::

        import torch

        import robustbench_med as rbmed


        class MeanImage(rbmed.Learner):
            def __init__(self, mean):
                super().__init__()
                self.mean = mean

            def loss(self, x, y):
                return (x - self.mean).square().mean()


        class Unusual(rbmed.Detector):
            stochastic = False

            class Params(rbmed.Params):
                training: str = rbmed.Field("fedavg:rounds=5,lr=0.01", description="Strategy that trains it.")

            def build(self, channels, size):
                self.mean = torch.nn.Parameter(torch.full((channels, size, size), 0.5))

            def learner(self, system):
                return MeanImage(self.mean)

            def error_map(self, x, system, rng):
                return (x - self.mean).square().mean(1)

            def score(self, x, system, rng):
                return self.error_map(x, system, rng).flatten(1).mean(1)


        @rbmed.hookimpl
        def rbmed_detectors():
            yield rbmed.DetectorSpec(
                name="unusual", target="my_plugin:Unusual", summary="Squared difference to the clients' mean image"
            )
    """


@hookspec
def rbmed_purifiers() -> Iterable[PurifierSpec]:
    """Offer purifiers.

    ``purify`` returns images in [0, 1] and is differentiable where the method is; otherwise the class sets
    ``differentiable = False``. ``strength`` holds one number in [0, 1] per image. ``stochastic = False`` declares that
    the noise stream is ignored. A purifier is trained as a detector is. One that has several copies of an image
    classified sets ``votes`` and overrides ``copies`` and ``join``; one made of other purifiers returns them from
    ``inner``. Example::

        from torch.nn import functional as F

        import robustbench_med as rbmed


        class Blur(rbmed.Purifier):
            stochastic = False

            class Params(rbmed.Params):
                radius: int = rbmed.Field(1, ge=1, le=8, description="Pixels averaged to each side.")

            def purify(self, x, strength, rng):
                r = self.params.radius
                blurred = F.avg_pool2d(F.pad(x, (r, r, r, r), mode="replicate"), 2 * r + 1, stride=1)
                return x + strength.view(-1, 1, 1, 1) * (blurred - x)


        @rbmed.hookimpl
        def rbmed_purifiers():
            yield rbmed.PurifierSpec(name="blur", target="my_plugin:Blur", summary="Moving average")
    """


@hookspec
def rbmed_strategies() -> Iterable[StrategySpec]:
    """Offer strategies, ways to train one model over several clients: a classifier, or the learner of a part.

    ``train`` returns the state that all clients share and, for a personalized strategy, the entries that replace it at
    each client. A client's images are used in its own local training only. Example::

        import torch

        import robustbench_med as rbmed


        class LocalOnce(rbmed.Strategy):
            class Params(rbmed.Params):
                lr: float = rbmed.Field(0.1, gt=0, description="Learning rate.")

            def train(self, build, clients, job):
                states = []
                for split in clients.values():
                    torch.manual_seed(job.seed)
                    model = build().to(job.device)
                    optimizer = torch.optim.SGD(model.parameters(), self.params.lr)
                    model.loss(split.images.to(job.device), split.labels.to(job.device)).backward()
                    optimizer.step()
                    states.append(model.state_dict())
                mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
                return rbmed.Federated(shared=mean, history=[{"clients": len(states)}])


        @rbmed.hookimpl
        def rbmed_strategies():
            yield rbmed.StrategySpec(
                name="local-once", target="my_plugin:LocalOnce", summary="One local step, then a plain average"
            )
    """


@hookspec
def rbmed_models() -> Iterable[ModelSpec]:
    """Offer classifier architectures.

    ``build`` returns a fresh `Classifier`: images in [0, 1] to logits, normalisation inside. Example::

        import torch

        import robustbench_med as rbmed


        class Linear(rbmed.Classifier):
            def __init__(self, num_classes, inputs):
                super().__init__()
                self.head = torch.nn.Linear(inputs, num_classes)

            def forward(self, x):
                return self.head((x - 0.5).flatten(1))


        class LinearModel(rbmed.Model):
            def build(self, num_classes, channels, size):
                return Linear(num_classes, channels * size * size)


        @rbmed.hookimpl
        def rbmed_models():
            yield rbmed.ModelSpec(name="linear", target="my_plugin:LinearModel", summary="One linear layer on pixels")
    """


@hookspec
def rbmed_defenses() -> Iterable[DefenseSpec]:
    """Offer defenses.

    A defense is a recipe that names its parts. The registry finds them, whichever plugin they come from; the harness
    trains, stores and calibrates them. Example::

        import robustbench_med as rbmed


        class Plain(rbmed.Defense):
            class Params(rbmed.Params):
                model: str = rbmed.Field("resnet", description="Classifier, with its parameters if any.")

            def recipe(self):
                return rbmed.Recipe(model=rbmed.parse(self.params.model), strategy=rbmed.PartRef("fedavg"))


        @rbmed.hookimpl
        def rbmed_defenses():
            yield rbmed.DefenseSpec(name="plain", target="my_plugin:Plain", summary="The classifier alone")
    """
