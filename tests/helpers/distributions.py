"""Writes real distributions (a module and its dist-info) that the import system finds."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

GOOD = """
    from robustbench_med import AttackSpec, DatasetSpec, hookimpl

    @hookimpl
    def rbmed_attacks():
        yield AttackSpec(name="push", target="{module}_impl:Push", summary="Adds eps")
"""
IMPL = """
    import torch
    import robustbench_med as rbmed

    class Push(rbmed.Attack):
        class Params(rbmed.Params):
            steps: int = rbmed.Field(1, ge=1, le=9, description="Pushes.")
            share: float = rbmed.Field(1.0, gt=0, le=1, description="Share of eps.")

        def run(self, model, x, y, threat, budget, rng):
            return threat.project(x + threat.eps * self.params.share, x)
"""


def distribution(
    folder: Path, name: str, plugin: str, *, points: str = "", impl: str = IMPL, metadata: str = ""
) -> str:
    """Write distribution ``name`` 1.2 with a plugin module into ``folder``; returns the module's name."""
    module = name.replace("-", "_").lower()
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{metadata}")
    info.joinpath("entry_points.txt").write_text(points or f"[rbmed]\n{module} = {module}\n")
    folder.joinpath(f"{module}.py").write_text(dedent(plugin).replace("{module}", module))
    folder.joinpath(f"{module}_impl.py").write_text(dedent(impl))
    return module
