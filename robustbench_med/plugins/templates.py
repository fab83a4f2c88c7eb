"""The files of a new plugin, copied from the installed plugin rbmed-example: a single file, or a package."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robustbench_med.errors import UsageError
from robustbench_med.plugins.registry import HOOKS, known_kind
from robustbench_med.plugins.specs import INTERFACE

SOURCE = "rbmed_example"
#: The first command to run, by kind; ``{name}`` is the component's.
FIRST_RUN = {
    "attack": "run --attack {name} --limit 16",
    "detector": "run --train --defense shielded:detector={name} --limit 16",
    "purifier": "run --train --defense shielded:purifier={name} --limit 16",
    "strategy": "run --train --defense undefended --strategy {name} --limit 16",
    "dataset": "run --train --defense undefended --dataset {name}",
    "model": "run --train --defense undefended --model {name} --limit 16",
    "defense": "run --train --defense {name} --limit 16",
    "metric": "run --attack fgsm --limit 16",
    "report": "run --attack fgsm --limit 16 --report {name}",
}


@dataclass(frozen=True)
class Template:
    """The source of a new plugin.

    Args:
        kind: of the component.
        name: of the component: lower case letters, digits, ``-``.

    Raises:
        UsageError: there is no such kind, or the name cannot be that of a component and of a module.
    """

    kind: str
    name: str

    def __post_init__(self) -> None:
        known_kind(self.kind)
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise UsageError(f"{self.name!r} cannot name a plugin; write lower case words such as my-{self.kind}")
        if self.name in ("example", "plugin") or keyword.iskeyword(self.module):
            raise UsageError(f"{self.name!r} is taken; choose another name, such as my-{self.kind}")

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.name.replace("-", "_")

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @cached_property
    def _folder(self) -> Path:
        found = importlib.util.find_spec(SOURCE)  # imports nothing
        if found is None or found.origin is None:
            raise UsageError("a new plugin is copied from rbmed-example, which is not installed; install it")
        return Path(found.origin).parent

    def single_file(self) -> str:
        """The plugin as one file, for ``rbmed -p``.

        Raises:
            UsageError: rbmed-example is not installed, or the file would hide a module.
        """
        taken = importlib.util.find_spec(self.module)
        if taken is not None:
            raise UsageError(
                f"{self.module}.py would hide the module {taken.origin or self.module}; choose another name"
            )
        return self._renamed(f"{self._read(self.kind)}\n\n{self._hook()}", self.module)

    def package(self) -> dict[str, str]:
        """The plugin as a distribution: its files by name.

        Raises:
            UsageError: rbmed-example is not installed.
        """
        package = f"rbmed_{self.module}"
        hooks = f"{HEAD}\n\n{self._hook()}".replace("<INTERFACE>", str(INTERFACE))
        return {
            "pyproject.toml": self._filled(PYPROJECT),
            "README.md": self._filled(README),
            f"{package}/__init__.py": f'"""The {self.kind} {self.name} for robustbench-med."""\n',
            f"{package}/plugin.py": self._renamed(hooks, f"{package}.{self.kind}"),
            f"{package}/{self.kind}.py": self._renamed(self._read(self.kind), package),
            f"tests/test_{self.module}.py": self._filled(TEST),
        }

    def commands(self, target: str, package: bool) -> list[str]:
        """The next commands: show it, check it, run it."""
        rbmed = "rbmed" if package else f"rbmed -p {target}"
        install = [f"pip install -e {target} pytest"] if package else []
        test = [f"pytest {target}"] if package else []
        what = f"{self.kind}/{self.name}"
        first = FIRST_RUN[self.kind].format(name=self.name)
        return [*install, f"{rbmed} show {what}", f"{rbmed} check {what}", *test, f"{rbmed} {first}"]

    def _read(self, stem: str) -> str:
        return (self._folder / f"{stem}.py").read_text(encoding="utf-8")

    def _hook(self) -> str:
        """The hook of the kind."""
        for text in (self._read("plugin"), self._read("unlisted")):
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef) and node.name == HOOKS[self.kind]:
                    lines = text.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno]
                    return "\n".join(lines) + "\n"
        raise UsageError(f"the rbmed-example that is installed offers no {self.kind}; install that of this version")

    def _renamed(self, text: str, module: str) -> str:
        """The example's text with the new names."""
        title = self.name.replace("-", " ").capitalize()
        text = text.replace(f'title="Example {self.kind}"', f'title="{title}"')  # for people
        text = re.sub(rf"{SOURCE}\.\w+:Example", f"{module}:{self.class_name}", text).replace("to copy: ", "")
        text = re.sub(r"\bexample_", f"{self.module}_", text.replace("Example", self.class_name))
        # In a single file, the hook's annotation is dropped.
        if "Iterator[rbmed." in text and "import Iterator" not in text:
            text = re.sub(r"\) -> Iterator\[rbmed\.\w+\]:", "):", text)
        return re.sub(r"\bexample\b", self.name, text)

    def _filled(self, text: str) -> str:
        first = FIRST_RUN[self.kind].format(name=self.name)
        values = {"NAME": self.name, "MODULE": self.module, "KIND": self.kind, "FIRST": first}
        for key, value in values.items():
            text = text.replace(f"<{key}>", value)
        return text


HEAD = '''\
"""What this plugin offers. It is read at every start, so it imports nothing heavy."""

from collections.abc import Iterator

import robustbench_med as rbmed

RBMED_INTERFACE = <INTERFACE>
'''

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "rbmed-<NAME>"
version = "0.1.0"
description = "The <KIND> <NAME> for robustbench-med"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["robustbench-med>=0.1"]

[project.entry-points.rbmed]
<NAME> = "rbmed_<MODULE>.plugin"
"""

README = """\
# rbmed-<NAME>

The <KIND> `<NAME>` for robustbench-med: the class is in `rbmed_<MODULE>/<KIND>.py`, the hook that offers it in
`rbmed_<MODULE>/plugin.py`, which is read at every start of `rbmed` and therefore imports nothing heavy.

```
pip install -e . pytest
rbmed show <KIND>/<NAME>
rbmed check <KIND>/<NAME>
rbmed <FIRST>
pytest
```
"""

TEST = '''\
"""Every check of robustbench_med.testing on what this distribution offers."""

from robustbench_med.testing import Case, parametrize, run_case


@parametrize("rbmed-<NAME>")
def test_conformance(case: Case) -> None:
    run_case(case)
'''
