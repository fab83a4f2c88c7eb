"""A classifier behind a median filter."""

import robustbench_med as rbmed


class Example(rbmed.Defense):
    """A recipe that names its parts; `rbmed list` shows the available ones."""

    class Params(rbmed.Params):
        """Parameters of the defense."""

        model: str = rbmed.Field("resnet", description="Classifier, with its parameters if any.")
        strategy: str = rbmed.Field("fedavg", description="How it is trained over the clients.")
        purifier: str = rbmed.Field("median:radius=1", description="Purifier of every image.")

    def recipe(self) -> rbmed.Recipe:
        """No detector: every image is purified, at full strength."""
        p = self.params
        return rbmed.Recipe(
            rbmed.parse(p.model), rbmed.parse(p.strategy), purifier=rbmed.parse(p.purifier), strength=1.0
        )
