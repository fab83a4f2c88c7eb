"""For each check, a change to the new plugin that `rbmed new` writes that makes this check fail."""

from __future__ import annotations

#: A part that learns something, and keeps it where no state is saved.
HIDES = (
    "\n    def fit(self, split, system, job):\n        self.hidden = float(split.images.mean())\n        return {}\n"
)
#: (kind, check, what the template says, what the broken plugin says).
BROKEN = [
    # --- every kind, shown on one of them ---
    ("attack", "spec", 'summary="signed', 'summary="two\\nlines'),
    ("attack", "default-constructible", "rbmed.Field(10, ge", "rbmed.Field(ge"),
    ("attack", "parameters-described", '"Gradient steps."', '"?"'),
    (
        "attack",
        "parameters-validated",
        "        steps: int",
        '        model_config = {"extra": "ignore"}\n        steps: int',
    ),
    (
        "attack",
        "parameters-round-trip",
        "        steps: int",
        "        def model_dump(self, **_):\n"
        "            return {'steps': self.steps + 1, 'length': self.length}\n\n        steps: int",
    ),
    # --- attacks ---
    ("attack", "runs", "return x_adv\n", "return x_adv[:, :, 1:]\n"),
    ("attack", "colour", "return x_adv\n", "return x_adv.view(len(x), 1, *x.shape[2:])\n"),
    ("attack", "inside-the-ball", "return x_adv\n", "return x_adv + 2 * threat.eps\n"),
    (
        "attack",
        "repeatable",
        "return x_adv\n",
        "self.calls = getattr(self, 'calls', 0) + 1\n        return threat.project(x_adv - 0.001 * self.calls, x)\n",
    ),
    ("attack", "own-stream", "return x_adv\n", "return threat.project(x_adv + torch.rand_like(x), x)\n"),
    ("attack", "batch-split", "return x_adv\n", "return threat.project(x_adv - 0.01 * len(x), x)\n"),
    (
        "attack",
        "batch-order",
        "return x_adv\n",
        "place = torch.arange(len(x)).view(-1, 1, 1, 1)\n        return threat.project(x_adv - 0.05 * place, x)\n",
    ),
    ("attack", "inputs-unmodified", "return x_adv\n", "x.mul_(0.99)\n        return x_adv\n"),
    (
        "attack",
        "lets-the-budget-through",
        "            loss = torch",
        "            try:\n                model(x_adv)\n            except Exception:\n                return x\n"
        "            loss = torch",
    ),
    ("attack", "sees-what-it-says", 'norms=("linf", "l2")', 'norms=("linf", "l2"), access="none"'),
    ("attack", "raises-the-loss", "+ self.params.length", "- self.params.length"),
    ("attack", "other-device", "return x_adv\n", "return x_adv + torch.zeros(x.shape)\n"),
    # --- detectors ---
    ("detector", "learns", "    def error_map", "    fit = lambda *_: {}\n\n    def error_map"),
    ("detector", "colour", "        r = self", "        x.view(len(x), 64, 64)\n        r = self"),
    ("detector", "scores", ".mean(1)\n\n\n@", ".mean(1, keepdim=True)\n\n\n@"),
    ("detector", "repeatable", ".flatten(1).mean(1)", ".flatten(1).mean(1) + rng.uniform((len(x),))"),
    ("detector", "own-stream", ".flatten(1).mean(1)", ".flatten(1).mean(1) + 0 * x.new_empty(len(x)).uniform_()"),
    ("detector", "batch-split", ".flatten(1).mean(1)", ".flatten(1).mean(1) * len(x)"),
    ("detector", "batch-order", ".flatten(1).mean(1)", ".flatten(1).mean(1) * x.new_ones(len(x)).cumsum(0)"),
    ("detector", "inputs-unmodified", "        r = self", "        x.mul_(0.99)\n        r = self"),
    (
        "detector",
        "survives-saving",
        ".flatten(1).mean(1)\n",
        ".flatten(1).mean(1) + getattr(self, 'hidden', 0)\n" + HIDES,
    ),
    ("detector", "gradients", ".flatten(1).mean(1)", ".flatten(1).mean(1) + 0 * (x - x).flatten(1).sum(1).sqrt()"),
    ("detector", "error-map", "return (x - smooth).square().mean(1)", "return -(x - smooth).square().mean(1)"),
    ("detector", "other-device", ".flatten(1).mean(1)", ".flatten(1).mean(1) + 0 * float(x.numpy().mean())"),
    # --- purifiers ---
    ("purifier", "learns", "    def purify", "    fit = lambda *_: {}\n\n    def purify"),
    ("purifier", "purifies", "* (smooth - x)", "* (smooth - x) - 1"),
    ("purifier", "colour", "        r = self", "        x.view(len(x), 64, 64)\n        r = self"),
    ("purifier", "joins", "    def purify", "    def join(self, logits):\n        return logits\n\n    def purify"),
    ("purifier", "strength", "strength.view(-1, 1, 1, 1)", "(1 - strength.view(-1, 1, 1, 1))"),
    ("purifier", "gradients", "* (smooth - x)", "* (smooth - x).detach() - x + x.detach()"),
    (
        "purifier",
        "pictures",
        "    def purify",
        "    def pictures(self, x, rng):\n        return {'x': x[:, :, 1:]}\n\n    def purify",
    ),
    ("purifier", "repeatable", "* (smooth - x)", "* (smooth - x) * rng.uniform(tuple(x.shape))"),
    ("purifier", "own-stream", "* (smooth - x)", "* (smooth - x) + 0 * x.detach().clone().uniform_()"),
    ("purifier", "batch-split", "* (smooth - x)", "* (smooth - x) * (len(x) % 2)"),
    ("purifier", "batch-order", "* (smooth - x)", "* (smooth - x) / x.new_ones(len(x)).cumsum(0).view(-1, 1, 1, 1)"),
    ("purifier", "inputs-unmodified", "        r = self", "        x.data.mul_(0.99)\n        r = self"),
    ("purifier", "survives-saving", "* (smooth - x)\n", "* (smooth - x) * getattr(self, 'hidden', 1)\n" + HIDES),
    ("purifier", "other-device", "* (smooth - x)", "* (smooth - x) * __import__('torch').ones(x.shape)"),
    # --- models ---
    ("model", "classifies", "return logits\n", "return logits / 0\n"),
    ("model", "logits", "return logits\n", "return logits.softmax(1)\n"),
    ("model", "repeatable", "return logits\n", "return logits + torch.rand_like(logits)\n"),
    ("model", "batch-split", "return logits\n", "return logits * len(x)\n"),
    ("model", "batch-order", "return logits\n", "return logits * x.new_ones(len(x)).cumsum(0)[:, None]\n"),
    ("model", "inputs-unmodified", "return logits\n", "x.data.mul_(0.99)\n        return logits\n"),
    ("model", "learns", "return logits\n", "return logits.detach()\n"),
    ("model", "state-names", 'heads = ("head.",)', 'heads = ("tail.",)'),
    (
        "model",
        "features",
        "return torch.as_tensor(self.features((x - 0.5) / 0.25))",
        "return torch.as_tensor(self.features((x - 0.5) / 0.25))[:1].expand(1, -1)",
    ),
    ("model", "survives-saving", "return logits\n", "return logits + id(self) % 1009\n"),
    ("model", "other-device", "return logits\n", "return logits + torch.zeros(logits.shape)\n"),
    # --- strategies ---
    ("strategy", "trains", "optimizer.step()", "pass"),
    ("strategy", "state-fits", "shared=state,", "shared={'weight': next(iter(state.values()))},"),
    (
        "strategy",
        "repeatable",
        "shared=state,",
        "shared={k: v + __import__('time').time_ns() % 1000 if v.is_floating_point() else v"
        " for k, v in state.items()},",
    ),
    (
        "strategy",
        "inputs-unmodified",
        "optimizer.step()",
        "split.images.mul_(0.5)\n                    optimizer.step()",
    ),
    ("strategy", "history", '{"round": number,', '{"round": {1, 2},'),
    ("strategy", "other-device", "split.labels.to(job.device)", "split.labels"),
    # --- data sets ---
    ("dataset", "card", 'citation="none; drawn by this plugin"', 'citation=""'),
    ("dataset", "images", "+= 0.4", "+= 4"),
    ("dataset", "labels", "% 2\n", "% 3\n"),
    ("dataset", "lesions", "patients, sites)", "patients, sites, lesions={'radius': labels})"),
    ("dataset", "patients-apart", 'f"{name}-{number}"', 'f"{number}"'),
    ("dataset", "repeatable", "torch.rand(count, 1, 32, 32, generator=generator)", "torch.rand(count, 1, 32, 32)"),
    ("dataset", "clear-errors", "synthetic=True,\n    )", "synthetic=True, needs_root=True,\n    )"),
    # --- defenses ---
    ("defense", "recipe", "strength=1.0", "strength=2.0"),
    ("defense", "parts-found", '"median:radius=1"', '"medain"'),
    ("defense", "same-again", "strength=1.0", "strength=__import__('time').time_ns() % 1000 / 1000"),
    ("defense", "weights", 'name="my-defense",', 'name="my-defense", weights="rbmed_example:weights",'),
    # --- metrics and reports ---
    ("metric", "figures", "if count else None", "if not count else float('nan')"),
    ("metric", "repeatable", "        count = ", "        outcome.labels.add_(1)\n        count = "),
    ("report", "renders", "return rbmed.to_csv(", "rbmed.to_csv("),
    ("report", "repeatable", "        return rbmed.to_csv(", "        table['more'] = 1\n        return rbmed.to_csv("),
]
