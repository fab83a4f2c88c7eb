"""What a raised flag of the diagnostics means, and what to try; read by people and by the leaderboard."""

from __future__ import annotations

#: Flag -> the figure of the diagnostics that raises it, and the limit that it has to exceed.
LIMITS = {
    "zero-gradients": ("zero_gradients", 0.05),
    "undefined-gradients": ("undefined_gradients", 0.0),
    "loss-not-rising": ("loss_not_rising", 0.1),
    "survives-huge-eps": ("withstood_huge_eps", 0.0),
    "unstable": ("unstable", 0.0),
    "large-logits": ("logit_spread", 100.0),
    "batch-dependent": ("batch_dependent", 0.0),
    "mode-dependent": ("mode_dependent", 0.0),
    "keeps-state": ("judged_otherwise", 0.02),
}

#: Flag -> what was seen and what to do about it, on one line.
FLAGS = {
    "zero-gradients": "many gradients were exactly zero: the loss underflows or the defense masks its gradient; "
    "try apgd:loss=margin, --access bpda or square",
    "undefined-gradients": "some gradients were not finite and were set to 0; look for roots, logarithms or divisions "
    "at 0 in the model",
    "no-gradient": "a part gives no gradient, so that a rung could not run, or could not lower the detector's score; "
    "robust accuracy is an upper bound that may be far too high: try --access query, or a detector with a gradient",
    "loss-not-rising": "for many images the attack never raised its loss; try more steps, restarts, or another loss",
    "survives-huge-eps": "images were robust to the attack at an eps that allows any image: the attack does not work "
    "here, so its robust accuracy means nothing; try square, hopskipjump or --access ladder:full",
    "noise-hurts": "random noise of the same size already breaks images; compare with that control, not with clean",
    "unstable": "the deployed system gave different outputs for the same image and the same noise: undeclared "
    "randomness; declare it (stochastic = True) and score on several --draws",
    "probabilities": "the model returns probabilities where logits are expected: cross-entropy saturates; "
    "remove the softmax or use apgd:loss=margin",
    "large-logits": "logits lie more than 100 apart: cross-entropy underflows in float32; use apgd:loss=margin",
    "blind-detector": "the detector does not distinguish attacked images from clean ones (AUROC at chance)",
    "black-box-wins": "an attack that sees less broke images that were robust to attacks with gradients: the gradients "
    "mislead; try more steps, --access full with a larger --eot, or square",
    "above-clean": "more images withstood the attack than are answered right without it, though an attack may leave an "
    "image as it is: withheld answers count as robust (see robust_answered), or the attack repairs images",
    "still-falling": "robust accuracy was still falling with the last gradients that were spent (see the saturation "
    "curve): it is an upper bound that more of the same attack lowers; try --access ladder:full",
    "budget-exhausted": "the budget stopped an attack before it was done; raise --max-gradients or --max-queries",
    "not-finite": "answers were not finite (logits, purified images or scores of the detector); each counts as wrong; "
    "look for overflow, and for divisions and logarithms at 0",
    "weights-not-finite": "weights of the deployed system are not finite: the training diverged, or the file is "
    "damaged; train again",
    "constant-answer": "the system gave one class to every image, of a client at least, though several have another "
    "one: the classifier has not learned the task; look at its training",
    "clean-at-chance": "clean accuracy is not above the share of the most frequent class: there is little that an "
    "attack could break; likely causes: another size, mean and std or channels than in training (size=, mean=, std=, "
    "channels=), classes in another order (classes=[...]), weights of other data or too little training; compare "
    "clean_balanced_accuracy",
    "batch-dependent": "answers changed with the other images of the batch, as those of a net in training mode do: "
    "figures depend on the batch size; use stored statistics",
    "mode-dependent": "the system answers otherwise when it is attacked than when it is scored (a branch on grad mode, "
    "inference mode or requires_grad, or a copy that is another model): another system was attacked, so that robust "
    "accuracy means nothing",
    "keeps-state": "attacked images were answered otherwise when they were scored than when the attack was judged, "
    "without declared noise: answers follow what was asked before, or the time, and another run gives other figures",
    "few-calibration-images": "there are too few calibration images for the share of false alarms that was asked "
    "(fpr): the threshold is the highest score; ask for a higher fpr, or calibrate on more images",
    "threshold-lowered": "the threshold of a detector that compares answers was lowered, so that images with barely "
    "wrong answers can be flagged; more clean images are flagged than was asked (fpr)",
    "certificate-contradicted": "an attack broke images inside their certified radius: a certificate or the evaluation "
    "is wrong, unless it is chance (see the note); raise --n and lower --alpha to tell",
    "class-absent": "a class has no test image, or no calibration image at a client: figures and thresholds leave it "
    "out; evaluate more images, or another partition",
    "eps-not-monotone": "robust accuracy rose with eps: the attack is not strong enough; try more steps",
    "not-converged": "twice the steps broke more images; raise the steps until nothing changes",
    "steps-help-defender": "more images were robust after more steps: the attack overshoots; try apgd or a smaller "
    "step",
    "restart-spread": "another seed gave another robust accuracy; use restarts or several --seed",
}
