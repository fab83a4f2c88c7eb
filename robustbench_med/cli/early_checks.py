"""What is checked of a command line before anything heavy is imported: a typo costs less than a second."""

from __future__ import annotations

from collections.abc import Mapping

from robustbench_med.grid.config import RunConfig
from robustbench_med.grid.local_checks import check_places
from robustbench_med.grid.names import check_component, check_names
from robustbench_med.plugins.registry import Registry


def check(settings: RunConfig, registry: Registry, components: Mapping[str, str | None] | None = None) -> None:
    """Check the names, the parameters and the places of a run.

    Args:
        settings: of the run.
        registry: where components come from.
        components: further ones that the command names, by kind.

    Raises:
        UsageError: a name, a value, a parameter, a folder or a client is wrong.
    """
    for kind, ref in (components or {}).items():
        if ref:
            check_component(registry, kind, ref)
    check_names(settings, registry)
    check_places(settings, registry)
    from robustbench_med.runner.executors.config import read

    read(settings.executor)
