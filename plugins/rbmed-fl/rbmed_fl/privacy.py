"""Differential privacy of clients, and what it has cost so far (McMahan et al. 2018, arXiv 1710.06963).

Each client clips its update to an L2 norm of at most C. The server takes the mean over the n clients that replied, each
with the same weight, and adds Gaussian noise of standard deviation z C / n to every entry. Two federations are
neighbours if the update of one client, with all its images, is replaced by zero; the number of clients is public.
Clipping, noise and accountant (Renyi, over the rounds) are Flower's.

Noise would make running variances negative, and clipping would spend most of C on them. So batch-norm statistics are
not sent, but stay with the client (Andreux et al. 2020, arXiv 2008.07424, keep them there for other reasons).

The guarantee is for what the server releases, the model, if the server is trusted and the noise is secret. Here it
comes from the seed of the training, so that results repeat. Figures of a round, such as losses, are not covered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from rbmed_fl.option import checked
from robustbench_med import Field, Number, Params, read_choice, seed_of
from robustbench_med.errors import UsageError

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp.typing import ClientAppCallable


class ClientPrivacy(Params):
    """Clipped updates, and noise on their mean."""

    noise_multiplier: Number = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Standard deviation of the noise on the sum of the updates, in multiples of clipping; 0: updates "
        "are clipped only, which guarantees nothing.",
    )
    clipping: Number = Field(1.0, gt=0, allow_inf_nan=False, description="Largest L2 norm of a client's update.")
    delta: Number = Field(1e-5, gt=0, lt=1, description="Probability with which the guarantee may fail.")

    def check(self, clients: int) -> None:
        """Raise `UsageError` if the accountant is not installed."""
        if self.noise_multiplier and find_spec("dp_accounting") is None:
            raise UsageError("privacy='dp' needs an accountant; install 'rbmed-fl[privacy]'")

    def epsilon(self, rounds: int) -> float | None:
        """Epsilon, at ``delta``, after this number of merged rounds; None without noise."""
        if not self.noise_multiplier:
            return None
        from flwr.supercore import privacy_accounting as accounting
        from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

        relation, sampling = (
            accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
            accounting.SamplingMethod.NO_AMPLIFICATION,
        )
        accountant = RdpAccountant(accounting.PrivacyConfig(self.delta, 1, relation, sampling))
        accountant.compose(accounting.GaussianPrivacyEvent(self.noise_multiplier, 1, 1), rounds)
        return accountant.get_epsilon(self.delta)


def parse_privacy(text: str) -> ClientPrivacy | None:
    """The privacy of ``privacy=TEXT``, such as ``dp:noise_multiplier=0.5,clipping=2``; None for ``none``.

    Raises:
        BadParameter: the name or a parameter is not valid.
    """
    return None if text == "none" else read_choice("privacy", text, {"dp": ClientPrivacy}, ("none",))[1]


#: Text that `parse_privacy` accepts; checked when the parameters are created.
PrivacyText = Annotated[str, checked(parse_privacy)]


def clip_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower's clipping of a client's update; the bound comes with the message."""
    from flwr.app import ArrayRecord
    from flwr.clientapp.mod import fixedclipping_mod

    def ordered(message: Message, context: Context) -> Message:
        received = message.content.array_records["arrays"]
        reply = call_next(message, context)
        if not reply.has_error():  # Flower compares entries by their order
            arrays = reply.content.array_records["arrays"]
            reply.content["arrays"] = ArrayRecord({name: arrays[name] for name in received})
        return reply

    return fixedclipping_mod(message, context, ordered)


def add_noise(mean: Mapping[str, np.ndarray[Any, Any]], privacy: ClientPrivacy, clients: int, seed: int) -> None:
    """Add the noise of a round to the mean over ``clients`` updates, in place."""
    from flwr.supercore.differential_privacy import add_gaussian_noise_inplace, compute_stdv

    with numpy_randomness(seed_of(seed, "privacy")):
        deviation = compute_stdv(privacy.noise_multiplier, privacy.clipping, clients)
        add_gaussian_noise_inplace(list(mean.values()), deviation)


@contextmanager
def numpy_randomness(seed: int) -> Iterator[None]:
    """Within this block NumPy's global generator, which Flower draws from, is seeded; then it is restored."""
    before = np.random.get_state()  # noqa: NPY002 (Flower uses it)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
