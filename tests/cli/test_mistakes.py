"""A mistake in a command line is told in one line, with exit code 2, before any large library is imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers import without_torch
from helpers.processes import run

from robustbench_med.plugins.registry import HOOKS

#: Command lines, and what their error says.
MISTAKES = {
    # names and parameters
    "run --attack apgdd": "did you mean 'apgd'",
    "run --attack apgd:stepps=3": "unknown parameter 'stepps'",
    "run --attack apgd:steps=0": "steps='0'",
    "run --access white-box": "it is here called full",
    "run --access ladder:quik": "valid: quick, standard, full",
    "run --partition irid:clients=3": "did you mean 'iid'",
    "run --partition iid:clients=0": "clients='0'",
    "run --executor rai": "'rai'",
    "run --device cudda": "unknown device 'cudda'",
    "run --report markdon": "did you mean 'markdown'",
    "run --eps 4/0": "4/0",
    "run --eps 900": "too large for linf",
    "run --threat l7:4/255": "unknown norm 'l7'",
    "run --norm l9": "valid: linf, l2, l1",
    "run --goal hide": "valid: untargeted",
    "run --batch-size many": "batch size",
    "run --limit 0": "--limit 0",
    "run --stand-in nope": "valid: identity, blur",
    "run --include foo=bar": "unknown key 'foo'",
    "run --include defense=medfedpuree*": "no cell has such a value of 'defense'; valid: medfedpure, undefended",
    "run --include attack=apgdd* --include access=ful": "of 'attack'; valid: apgd, ladder:quick",
    "plan --include finding=nodule": "of 'finding'; valid: none is named",
    "run --access full --include role=probe": "of 'role'; valid: cell",
    "run --seed 1 --include defense=*,seed=2": "of 'seed'; valid: 1",
    "run --strategy fedavgg": "did you mean 'fedavg'",
    "run --adversarial pgdd": "did you mean 'pgd'",
    "run --adversarial pgd:stepps=3": "unknown parameter 'stepps'",
    "run --malicious scalling": "did you mean 'scaling'",
    "run --strategy krum --malicious scaling:x=1": "unknown parameter 'x'",
    "run --engine nope": "unknown engine 'nope'",
    "run --defense shielded:purifier=jpegg": "did you mean 'jpeg'",
    "run --defense medfedpure:preset=nope": "preset",
    "run --model timm:name=resnet18": "unknown parameter 'name'",
    "run --model nowhere.pt": "nowhere.pt",
    "run --model timm:resnet181": "timm has no model 'resnet181', did you mean 'resnet18",
    "run --model torchvision:resnett50": "torchvision has no model 'resnett50', did you mean 'resnet50'? see rbmed",
    "run --attack foolbox:LinfPGDD": "foolbox has no attack 'LinfPGDD'",
    "run --attack art:SquareAttac": "art has no attack 'SquareAttac', did you mean 'SquareAttack'? see rbmed show",
    "run --attack torchattacks:PGDD": "torchattacks has no attack 'PGDD', did you mean 'PGD",
    "run --finding Edema": "data set 'brainsim' has one label for each image; leave it out",
    "run --finding Edema --dataset imagefolder --data-root images": "'imagefolder' has one label for each image",
    "run --finding Edema --dataset table:task=ordinal --data-root images": "'table' has one label for each image",
    "plan --dataset brainsimm": "did you mean 'brainsim'",
    "train guardedd": "unknown defense 'guardedd'",
    "train medfedpure --only foo": "valid: classifier, detector, purifier",
    "certify --norm linf": "radii in l2",
    "certify --defense undefended": "has no certificate",
    "certify --defense smoothed:sigma=-1": "sigma='-1'",
    "show apgdd": "no component is called 'apgdd'",
    "list attakc": "did you mean 'attack'",
    "check attack/apgdd": "unknown attack 'apgdd'",
    "check mine.py": "mine.py is a file: rbmed -p mine.py check tests what it offers",
    "data show brainsimm": "unknown dataset 'brainsimm'",
    "data partition brainsim --partition irid": "did you mean 'iid'",
    "data partition brainsim --out chart.docx": "FILE.png or FILE.svg",
    "leaderboard split brainsimm": "unknown dataset 'brainsimm'",
    "leaderboard show --sort nope": "there is no column 'nope'",
    "leaderboard show --norm l9": "valid: linf, l2, l1",
    "reproduce nope": "unknown defense 'nope'",
    "reproduce undefended": "ships no reproduction",
    "reproduce medfedpure --preset nope": "unknown --preset 'nope'",
    "completion nope": "unknown shell 'nope'",
    "new nope foo": "unknown kind 'nope'",
    **{f"new {kind} foo --out note.txt": "--out note.txt/foo.py cannot be written" for kind in HOOKS},
    "new attack foo --out foo.py": "foo.py is written into the folder --out",
    "new attack foo --package --out note.txt": "--out note.txt/rbmed-foo cannot be written",
    f"new attack {300 * 'a'}": "File name too long",
    # configurations and plugin files
    "run bad.toml": "bad.toml is not TOML",
    "run key.toml": "unknown key 'wrong'",
    "run nowhere": "configuration nowhere cannot be read",
    "plan nowhere.toml": "configuration nowhere.toml cannot be read",
    "run empty": "is not a file",
    "-p nowhere.py run": "plugin file",
    # images
    "run --data-root nowhere --dataset imagefolder": "is not a folder",
    "run --data-root notes": "no data set is named",
    "run --dataset imagefolder": "needs its images",
    "run --dataset imagefolder --data-root notes": "no class folders with images under",
    "run --dataset imagefolder --data-root empty": "no class folders with images under",
    "run --dataset imagefolder:lesion=foo --data-root images": "no class 'foo' in",
    "run --dataset lgg --data-root empty": "no LGG patients under",
    "run --dataset lgg:folds=5 --data-root empty": "no LGG patients under",
    "run --dataset nifti --data-root empty": "no volumes",
    "run --dataset dicom --data-root empty": "no DICOM files under",
    "run --dataset table --data-root empty": "no table",
    "run --dataset table --data-root book": "is a workbook of Excel",
    "run --dataset table:file=a.csv --data-root empty": "there is no table",
    "run --dataset medmnist --data-root empty": "no file of MedMNIST",
    "plan --dataset imagefolder --data-root notes": "no class folders with images under",
    "certify --dataset imagefolder": "needs its images",
    "train --dataset imagefolder --data-root notes": "no class folders with images under",
    "reproduce medfedpure --data-root notes": "no class folders with images under",
    "data show imagefolder": "needs its images",
    "data show lgg --data-root empty": "no LGG patients under",
    "data partition imagefolder": "needs its images",
    "data check nowhere": "nowhere is no folder",
    "data check empty": "no data set can read empty",
    "data check notes": "no data set can read notes",
    "leaderboard split imagefolder": "needs its images",
    "run --test-folder nowhere": "--test-folder nowhere is not a folder",
    # clients
    "run --client hospital-9": "unknown client 'hospital-9' of 'brainsim' (--client); valid: hospital-1, hospital-2",
    "plan --client hospital-9": "unknown client 'hospital-9'",
    "run --partition iid:clients=3 --client hospital-1": "valid: client-1, client-2, client-3",
    "run --partition site --client client-1": "unknown client 'client-1'",
    "run --unseen-site nowhere": "has no site 'nowhere' (--unseen-site); valid: hospital-1",
    "run --dataset imagefolder --data-root images --client CS": "unknown client 'CS' of 'imagefolder'",
    "train --unseen-site nowhere": "has no site 'nowhere'",
    # weights
    "run --weights nowhere": "--weights nowhere: there is no such file or folder",
    "run --defense medfedpure --weights empty": "manifest.json is missing",
    "plan --defense medfedpure --weights empty": "manifest.json is missing",
    "certify --weights empty": "manifest.json is missing",
    "run --defense medfedpure --weights broken": "is unreadable",
    "run --defense medfedpure --weights lost": "do not exist although the manifest lists them",
    "run --defense medfedpure --weights another --client hospital-1": "valid: A, B",
    "push empty owner/name": "manifest.json is missing",
    # results
    "run --out note.txt": "--out note.txt cannot be written",
    "run --out note.txt/results": "--out note.txt/results cannot be written",
    "certify --out note.txt": "--out note.txt cannot be written",
    "train --out note.txt": "--out note.txt cannot be written",
    "reproduce medfedpure --out note.txt --data-root images": "--out note.txt cannot be written",
    "verify nowhere": "there is no file or folder nowhere",
    "verify empty": "holds no records.jsonl",
    "verify note.txt": "no records in note.txt",
    "table nowhere": "there is no file or folder nowhere",
    "report empty": "holds no records.jsonl",
    "export nowhere": "there is no file or folder nowhere",
    "diff nowhere empty": "there is no file or folder nowhere",
    "merge nowhere --out merged": "nowhere is no folder",
    "merge empty --out note.txt": "--out note.txt is there already",
    "merge empty --out note.txt/merged": "--out note.txt/merged cannot be written",
    "report empty --out empty": "--out empty is a folder; name a file",
    "report empty --out report": "the ending says no format",
    "report empty --out chart.png --format html": "--out chart.png is a folder; name a file",
    "report empty --out note.txt/report.html": "--out note.txt/report.html cannot be written",
    "export empty --out empty": "--out empty is a folder; name a file",
    "export empty --out /dev/null": "--out /dev/null is no regular file",
    "export empty --format parquet --out note.txt/all": "--out note.txt/all cannot be written",
    "data partition brainsim --out chart.png": "--out chart.png is a folder; name a file",
    "data partition brainsim --out note.txt/chart.svg": "there is no folder note.txt",
    f"data partition brainsim --out {300 * 'a'}.png": "File name too long",
    "push empty owner/name --dry-run --out note.txt": "--out note.txt cannot be written",
    "submit empty --defense undefended --paper https://example.org --out note.txt": "--out note.txt cannot be written",
    "leaderboard rescore note.txt --cell a --name b --attack c --paper nowhere": "give the address of a page",
    "leaderboard rescore x --cell a --name b --attack c --paper https://a.org --out note.txt": "cannot be written",
    "leaderboard verify nowhere": "nowhere cannot be read",
    "leaderboard check nowhere": "nowhere cannot be read",
    "leaderboard check empty": "empty is a folder; name a file in it",
    "leaderboard gallery --root empty": "no records in empty/records",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, tuple[int | str, str]]:
    """The exit code and the output of each command line, all run in one process without large libraries."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name in ("empty", "notes/a", "book", "broken", "lost", "another", "images/no", "images/yes", "chart.png"):
        (folder / name).mkdir(parents=True)
    made = {
        "note.txt": "a note\n",
        "notes/a/note.txt": "a note\n",
        "book/images.xlsx": "",
        "bad.toml": "dataset = [\n",
        "key.toml": "wrong = 3\n",
        "broken/manifest.json": "{",
        "lost/manifest.json": json.dumps({"files": {"classifier.safetensors": "0" * 64}, "clients": []}),
        "another/manifest.json": json.dumps({"files": {}, "clients": ["A", "B"]}),
        "images/no/1.png": "",
        "images/yes/2.png": "",
        "words.json": json.dumps(list(MISTAKES)),
    }
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    with (folder / "words.json").open() as words:
        done = run([sys.executable, Path(without_torch.__file__)], stdin=words, cwd=folder)
    left = {path.name for path in folder.iterdir()} - {name.partition("/")[0] for name in made}
    assert left == {"empty", "chart.png"}, "a refused command wrote something"
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_told_at_once(told, words):
    code, output = told[words]
    assert code == 2, f"exit code, or the library that was to be imported: {code}\n{output}"
    assert MISTAKES[words] in " ".join(output.split())
    assert len(output.strip().splitlines()) == 1
