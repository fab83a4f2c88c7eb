"""Weights on the Hugging Face hub: ``hf:OWNER/NAME@REVISION``, downloaded once into the cache, and uploaded.

::

    <cache>/hub/<owner>--<name>/<commit>/    as `robustbench_med.defenses.artifact` says, and
        source.json                          where it came from: {"source": "hf:owner/name@commit"}

Only the manifest and the safetensors files that it names are downloaded, none of them out of the folder, and each file
has the digest that the manifest says. Gates are fixed here: thresholds of others are not taken over.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from robustbench_med.defenses.artifact import MANIFEST, SOURCE, Artifact, digests, read_manifest
from robustbench_med.errors import BadParameter, Note, RbmedError, StoreError, UsageError, WeightsError
from robustbench_med.files.atomic import new_folder, write_text
from robustbench_med.files.escaping import line
from robustbench_med.files.hub_name import COMMIT, HubName, hub_name, on_hub
from robustbench_med.files.paths import home
from robustbench_med.files.redact import portable

#: Who pushes over other files of the hub has mistyped a name; these are in every repository.
_IN_EVERY = {".gitattributes", "README.md", "LICENSE"}
#: Bytes of a manifest; those of hundreds of clients over hundreds of rounds are smaller.
_MOST = 64 << 20


def local(weights: Path) -> Path:
    """The folder of weights: of those on the hub where they are in the cache, downloaded if needed; else ``weights``.

    Raises:
        BadParameter: ``hf:...`` is no name.
        WeightsError: the hub does not give the weights, or they are damaged.
    """
    return fetch(hub_name(str(weights))) if on_hub(weights) else weights


def fetch(name: HubName) -> Path:
    """The folder in the cache, downloaded if it is not there.

    A revision that is no commit is looked up once in a process, and said, so that a branch that moves in between does
    not mix weights.

    Raises:
        WeightsError: the hub does not give the weights, or they are damaged.
    """
    return _fetched(name, home() / "hub")


@lru_cache
def _fetched(name: HubName, cache: Path) -> Path:
    places = cache / name.repo.replace("/", "--")
    if COMMIT.fullmatch(name.revision) and (places / name.revision / MANIFEST).is_file():
        return places / name.revision
    found = HubName(name.repo, _looked_up(name))
    target = places / found.revision
    if not (target / MANIFEST).is_file():
        _download(found, target)
    if found != name:
        warnings.warn(f"weights: {name} is {found}; name this commit to use the same weights again", Note, stacklevel=4)
    return target


def _looked_up(name: HubName) -> str:
    with _one_line(name):
        commit = _api().model_info(name.repo, revision=name.revision or None, timeout=30).sha
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise WeightsError(f"{name}: the hub names no commit of it")
    return commit


def _download(name: HubName, target: Path) -> None:
    with new_folder(target) as draft, tempfile.TemporaryDirectory() as place:
        _get(name, MANIFEST, Path(place), draft)
        if (draft / MANIFEST).stat().st_size > _MOST:
            raise WeightsError(f"{name}: its {MANIFEST} is larger than {_MOST >> 20} MiB")
        try:
            files: dict[str, str] = read_manifest(draft)["files"]
        except WeightsError as error:
            raise WeightsError(f"{name}: {str(error).replace(str(draft / MANIFEST), MANIFEST)}") from None
        for file in files:
            if not _inside(file):
                raise WeightsError(
                    f"{name}: its {MANIFEST} names {line(file)[:80]!r}, which is no file of weights there"
                )
        for file in files:
            _get(name, file, Path(place), draft)
        try:
            found = digests(draft)
        except ValueError:
            raise WeightsError(f"{name}: a file of it is damaged, or not in safetensors format") from None
        for file, digest in files.items():
            if found.get(file) != digest:
                raise WeightsError(f"{name}: {file} is damaged: its digest differs from the one in {MANIFEST}")
        write_text(draft / SOURCE, json.dumps({"source": str(name)}) + "\n")


def _inside(file: str) -> bool:
    """Whether a name of a manifest is one of a safetensors file in its folder."""
    path = PurePosixPath(file)
    plain = file == path.as_posix() and not re.search(r"[\\\0\n\r:]", file) and file.isprintable()
    hidden = any(part.startswith(".") for part in path.parts)
    return plain and not hidden and not path.is_absolute() and path.suffix == ".safetensors" and len(file) < 400


def _get(name: HubName, file: str, place: Path, draft: Path) -> None:
    with _one_line(name, file):
        found = _api().hf_hub_download(name.repo, file, revision=name.revision, local_dir=place)
    (draft / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, draft / file)


def push(folder: Path, name: HubName, private: bool = False) -> HubName:
    """Upload a folder that `write` made; the name with the commit.

    Raises:
        BadParameter: the name is of something else, or of a public repository where a private one was asked for.
        StoreError: the hub does not take it.
    """
    api, done = _api(), StoreError
    from huggingface_hub.errors import RepositoryNotFoundError

    with _one_line(name, raises=done):
        try:
            there: Any = api.model_info(name.repo, timeout=30)
        except RepositoryNotFoundError:
            there = None
        if there is not None:
            _check_there(name, there, private)
        else:
            api.create_repo(name.repo, private=private, exist_ok=True)
        made = api.upload_folder(repo_id=name.repo, folder_path=folder, commit_message="Weights, and what was measured")
    return HubName(name.repo, str(made.oid))


def _check_there(name: HubName, there: Any, private: bool) -> None:
    files = {each.rfilename for each in there.siblings or ()}
    if MANIFEST not in files and (others := sorted(files - _IN_EVERY)):
        raise BadParameter(f"{name.repo} on the hub holds something else ({others[0]}); choose another name")
    if private and not there.private:
        raise BadParameter(f"--private: {name.repo} is on the hub already, and public; choose another name")


def write(folder: Path, target: Path, card: str) -> Artifact:
    """A folder to upload: the weights, their manifest without paths of this machine, and the model card.

    Raises:
        BadParameter: there is something else in the folder.
        WeightsError: the weights are damaged, or a file of them has a name that `fetch` refuses.
        StoreError: it cannot be written.
    """
    artifact = Artifact(folder)
    if target.is_symlink() or (target.exists() and not (target / MANIFEST).is_file()):
        raise BadParameter(f"--out {target} is there already, and holds no weights; name a new folder")
    for file in artifact.manifest["files"]:
        if not _inside(file):
            raise WeightsError(f"weights {folder}: the name {file!r} cannot be used on the hub")
    with new_folder(target) as draft:
        for file in artifact.manifest["files"]:
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, draft / file)
        write_text(draft / MANIFEST, json.dumps(portable(artifact.manifest), indent=1, sort_keys=True) + "\n")
        write_text(draft / "README.md", card)
    return Artifact(target)


def _api() -> Any:
    """The client of the hub; it finds the user's token itself, and nothing here reads it.

    Raises:
        UsageError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars, logging
    except ImportError:
        raise UsageError("weights on the hub need huggingface_hub: pip install 'robustbench-med[hub]'") from None
    disable_progress_bars()
    logging.set_verbosity_error()  # what it tries again is not said, and what fails is said once, here
    return HfApi(library_name="robustbench-med")


@contextmanager
def _one_line(name: HubName, file: str = "", raises: type[RbmedError] = WeightsError) -> Iterator[None]:
    """Errors of the hub as one line, without addresses and tokens."""
    try:
        yield
    except RbmedError:
        raise
    except Exception as error:  # noqa: BLE001 -- of a library, whose errors have no common class
        raise raises(f"{name}: {_reason(error, name, file)}") from None


def _reason(error: Exception, name: HubName, file: str) -> str:
    """What went wrong, by the kinds of errors that huggingface_hub has."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        what = "there is no such name on the hub, or it is private" if status == 401 else "the hub does not let you in"
        return f"{what} ({status}); `hf auth login` or the environment variable HF_TOKEN says who you are"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no such revision {name.revision!r}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such name on the hub (404)"
    offline = isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | OSError)
    if status is None and (offline or type(error).__module__.startswith("httpx")):
        return "the hub cannot be reached; weights that were downloaded before need no network if their commit is named"
    if isinstance(error, errors.EntryNotFoundError):
        hint = "; `rbmed push` puts weights there" if file == MANIFEST else ""
        return f"there is no {file} on the hub{hint}"
    if status is not None:
        return f"the hub answers with an error ({status})"
    return line(re.sub(r"hf_\w+|https?://\S+", "…", f"{type(error).__name__}: {error}"))[:200]
