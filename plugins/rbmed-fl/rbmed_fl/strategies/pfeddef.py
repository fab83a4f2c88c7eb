"""pFedDef: FedEM whose clients train adversarially against their own mixtures (Kim et al. 2023).

Reference: Kim, Singh, Madaan & Joe-Wong, "Characterizing internal evasion attacks in federated learning", AISTATS 2023,
arXiv 2209.08412. Responsibilities come from clean images, the M-step from attacked ones. Three things are simpler here:

- Images are attacked again at every step, where the authors renew a stored set every few rounds.
- The attack is against the mixture of outputs, which is deployed; the authors' code attacks one classifier whose
  parameters are the mixture of the components'.
- Every client attacks the same share of its images (``pgd:clean=0.5`` leaves half alone). The paper's robustness
  propagation, in which clients with more computing power attack more images, is left out.
"""

from __future__ import annotations

from rbmed_fl.adversarial_training import Adversarial
from rbmed_fl.strategies.fedem import FedEM
from robustbench_med import Field


class PFedDef(FedEM):
    """FedEM with adversarial training by every client."""

    class Params(FedEM.Params):
        adversarial: Adversarial = Field(
            "pgd", description="Adversarial training by every client: pgd:KEY=VALUE,... or trades:KEY=VALUE,..."
        )
