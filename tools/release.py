"""Make a release: versions and changelog, one commit with a tag, and the distributions of the core and of every plugin.

python tools/release.py 0.1.0 [--out dist]

Nothing is sent anywhere: `git push --follow-tags` and `uv publish dist/*` are left to whoever runs it. It needs
towncrier and hatchling, and refuses an older version, a tag that exists, a folder with changes, a full output folder.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = Path("robustbench_med/__init__.py")
OURS = r"(?:rbmed-[a-z]+|robustbench-med)(?:\[[a-z,]+\])?"


def git(*words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def current() -> str:
    """The version in the source."""
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / CORE).read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"no __version__ in {CORE}")
    return found[1]


def number(version: str) -> tuple[int, ...]:
    """(1, 2, 3) for ``1.2.3``."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"{version!r} is no version; give three numbers, such as 0.1.0")
    return tuple(map(int, version.split(".")))


def check(version: str, out: Path) -> None:
    """Refuse what cannot be released, before anything is written."""
    if number(version) < number(current()):
        raise SystemExit(f"{version} is older than {current()}, which the source has")
    if f"v{version}" in git("tag").splitlines():
        raise SystemExit(f"the tag v{version} exists: {version} has been released")
    if changes := git("status", "--porcelain"):
        raise SystemExit(f"the folder has changes, which would become part of the release:\n{changes}")
    if not [path for path in (ROOT / "changelog").glob("*.md") if path.name != "README.md"]:
        raise SystemExit("changelog/ has no fragment: nothing has changed since the last release")
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty")


def set_versions(version: str) -> None:
    """Write the version wherever it stands: the core, the plugins and what they require of each other, the citation."""
    old = re.escape(current())
    today = dt.datetime.now(dt.UTC).date().isoformat()
    changes = {
        CORE: [(rf'(__version__ = "){old}"', rf'\g<1>{version}"')],
        Path("pyproject.toml"): [(rf'("{OURS}==){old}"', rf'\g<1>{version}"')],
        Path("CITATION.cff"): [
            (r"(?m)^version: .*(\ndate-released: .*)?$", f"version: {version}\ndate-released: {today}")
        ],
    }
    for folder in sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml")):
        changes[folder.relative_to(ROOT) / "pyproject.toml"] = [
            (rf'(?m)^(version = "){old}"', rf'\g<1>{version}"'),
            (rf'("{OURS}==){old}"', rf'\g<1>{version}"'),
        ]
    for path, pairs in changes.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for pattern, new in pairs:
            text = re.sub(pattern, new, text)
        (ROOT / path).write_text(text, encoding="utf-8")


def build(out: Path) -> list[Path]:
    """A wheel and a source distribution of the core and of every plugin."""
    for folder in [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]:
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=folder, check=True)
    return sorted(out.iterdir())


def main() -> None:
    """Release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    out = given.out.resolve()
    check(given.version, out)
    set_versions(given.version)
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", given.version], cwd=ROOT, check=True
    )
    git("add", "--all", ".")
    git("commit", "--quiet", "-m", f"Release {given.version}")
    git("tag", "--annotate", f"v{given.version}", "-m", f"robustbench-med {given.version}")
    made = build(out)
    print(f"v{given.version}: {len(made)} files in {out}; next: git push --follow-tags; uv publish {out}/*")


if __name__ == "__main__":
    main()
