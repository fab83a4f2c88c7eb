"""The model card of weights on the hub: what was measured of them, from their records alone.

The front matter holds the same figures as the hub's ``model-index``, so that they can be searched and compared there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_med.errors import BadConfig, UsageError
from robustbench_med.files.escaping import escape_markdown, line, shell_command
from robustbench_med.files.hub_name import HubName
from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry, Figure
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.pool import cells
from robustbench_med.leaderboard.render.columns import with_interval
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.plugins.references import PartRef, format_ref
from robustbench_med.records.record import Record, latest
from robustbench_med.records.rerun import command, request
from robustbench_med.records.summary import images_of

HOME = "https://github.com/robustbench-med/robustbench-med"
TAGS = ("robustbench-med", "adversarial-robustness", "medical-imaging", "federated-learning")
NOTHING = "No measurement of these weights is known: there is no figure of how robust they are."
SENSITIVITY = "Lesions found under attack (sensitivity)"
SPECIFICITY = "Healthy images passed under attack (specificity)"
#: What the hub calls a figure, where it is no accuracy.
TYPES = {SENSITIVITY: "recall", SPECIFICITY: "specificity"}
#: Sentence on a row without a rank, which says too little to be compared.
UNRANKED = "**This row has no rank, and its figures must not be read as those of a ranked row**"


@dataclass(frozen=True)
class Weights:
    """Weights that are described.

    Attributes:
        name: on the hub, with a branch.
        licence: identifier of the hub, such as ``apache-2.0``; ``unknown`` where nobody said.
        digest: of all files.
        manifest: of the folder.
    """

    name: HubName
    licence: str
    digest: str
    manifest: Mapping[str, Any]

    @property
    def defense(self) -> str:
        """Its name, as far as the manifest says."""
        return line(str(self.manifest.get("defense") or "unnamed"))

    @property
    def data(self) -> Mapping[str, Any]:
        """What the manifest says of the data set."""
        found = self.manifest.get("dataset")
        return found if isinstance(found, Mapping) else {}


def model_card(weights: Weights, records: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> str:
    """The card, README.md, of weights; records of others are left out.

    Raises:
        UsageError: huggingface_hub is not installed.
    """
    own = [each for each in latest(records) if each.status == "ok" and each.defense.weights.digest == weights.digest]
    found = [(board, entry) for board in boards(own, outcomes) for entry in board.entries]
    found.sort(key=lambda row: not row[1].ranked)
    shown = found[0][1].records if found else own
    body = [*_head(weights), *_use(weights, shown), "## What was measured", ""]
    body += [NOTHING, ""] if not found else []
    for board, entry in found:
        body += [*_row(weights, board, entry), ""]
    return f"---\n{_front(weights, found)}\n---\n\n" + "\n".join(body).rstrip() + "\n"


def _front(weights: Weights, rows: Sequence[tuple[Board, Entry]]) -> str:
    """The metadata of the hub, as YAML."""
    try:
        from huggingface_hub import ModelCardData
    except ImportError:
        raise UsageError("a model card needs huggingface_hub: pip install 'robustbench-med[hub]'") from None
    results = [result for board, entry in rows for result in _results(board, entry)]
    data = [line(str(name))] if (name := weights.data.get("name")) else []
    return str(
        ModelCardData(
            license=line(weights.licence),
            library_name="robustbench-med",
            pipeline_tag="image-classification",
            tags=[*TAGS, weights.defense, *data],
            model_name=weights.name.repo.partition("/")[2],
            eval_results=results or None,
        ).to_yaml()
    )


def _results(board: Board, entry: Entry) -> Iterator[Any]:
    """The figures of a row as the hub has them; the name of one without a rank says so."""
    from huggingface_hub import EvalResult

    rank = "" if entry.ranked else ", no rank"
    for name, shown in figures(entry):
        low, high = shown.interval or (None, None)
        bounds = {} if low is None or high is None else {"low": round(100 * low, 1), "high": round(100 * high, 1)}
        yield EvalResult(
            task_type="image-classification",
            task_name=line(f"Image classification by {entry.defense}, {board.threat}"),
            dataset_type=line(board.dataset),
            dataset_name=line(board.title),
            dataset_split="test",
            metric_type=TYPES.get(name, "accuracy"),
            metric_name=line(f"{name}, %{rank}"),
            metric_value=round(100 * shown.value, 1),
            metric_config=line(entry.ladder),
            metric_args={**bounds, "images": entry.images, "patients": entry.patients},
        )


def figures(entry: Entry) -> list[tuple[str, Figure]]:
    """The figures of a row by what they are; the accuracy under one attack is not called a worst case."""
    attacked = entry.worst or figure(entry.records, "robust_accuracy")
    name = "Worst case" if entry.worst is not None else f"Under {entry.ladder} only"
    found = [
        ("Clean", entry.clean or figure(entry.records, "clean_accuracy")),
        ("Claim (the attacker does not know the defense)", entry.claim),
        (name, attacked),
        (SENSITIVITY, entry.sensitivity),
        (SPECIFICITY, entry.specificity),
    ]
    return [(what, shown) for what, shown in found if shown is not None]


def _head(weights: Weights) -> Iterator[str]:
    data, seed = weights.data, weights.manifest.get("seed")
    trained = f"{data.get('name', 'an unnamed data set')}{' (synthetic)' if data.get('synthetic') else ''}"
    yield f"# {weights.name.repo.partition('/')[2]}\n"
    seeded = f" with seed {seed}" if isinstance(seed, int) else ""
    yield (
        f"Weights of the defense {escape_markdown(weights.defense)}, trained on {escape_markdown(trained)}{seeded}, "
        f"for [robustbench-med]({HOME}), which measures how robust models of medical images are. Safetensors only, no "
        "code."
    )
    yield ""
    yield "This is research software. It is not a medical device" + (
        ", and results on synthetic images say nothing about patients." if data.get("synthetic") else "."
    )
    yield ""
    yield f"- Digest of the weights: `{weights.digest}`"
    for what in ("licence", "citation"):
        if text := data.get(what):
            yield f"- {what.capitalize()} of the data: {escape_markdown(str(text))}"
    yield ""


def _use(weights: Weights, records: Sequence[Record]) -> Iterator[str]:
    yield "## Use\n"
    yield "```"
    yield 'pip install "robustbench-med[all]"'
    yield shell_command(["rbmed", "run", *_options(weights, records), "--weights", str(weights.name), "--limit", "64"])
    yield "```\n"
    yield "The commit behind the branch is printed and recorded; name it in place of the branch to fix the weights.\n"


def _options(weights: Weights, records: Sequence[Record]) -> Iterator[str]:
    """The options that name the defense and its data, as far as records tell."""
    if not records:
        yield from ("--defense", weights.defense, "--dataset", line(str(weights.data.get("name") or "brainsim")))
        return
    defense, asked = records[0].defense, records[0].dataset.asked
    yield from ("--defense", format_ref(PartRef(defense.name, defense.params_passed)))
    yield from ("--dataset", (asked and asked.dataset) or records[0].dataset.name)
    for name, text in {**defense.asked, **defense.replaced}.items():
        if name != "train-seed":
            yield from (f"--{name}", text)
    yield from ("--data-root", "FOLDER") if not records[0].dataset.synthetic else ()


def _row(weights: Weights, board: Board, entry: Entry) -> Iterator[str]:
    yield f"### {escape_markdown(entry.defense)} on {escape_markdown(board.title)}: {escape_markdown(entry.ladder)}\n"
    if not entry.ranked:
        yield f"> {UNRANKED}: {escape_markdown(entry.why_not)}.\n"
    yield f"{images_of(entry.images, entry.patients)}; threat model {escape_markdown(board.threat)}; {entry.track}.\n"
    yield "| Accuracy | % [95 %] |"
    yield "| --- | ---: |"
    for name, shown in figures(entry):
        yield f"| {escape_markdown(name)} | {with_interval(shown)} |"
    if entry.worst_client and entry.worst_client_accuracy:
        yield f"| Worst client: {escape_markdown(entry.worst_client)} | {with_interval(entry.worst_client_accuracy)} |"
    yield ""
    if len(entry.rungs) > 1:
        yield from _ladder(entry)
    yield from _flags(entry)
    yield from _again(weights, entry)


def _ladder(entry: Entry) -> Iterator[str]:
    yield "Attackers in the order in which they were tried; each gets the images that the ones before left:\n"
    yield "| Attacker | Images given | Broken | Robust so far % | Gradients / image | Queries / image |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for rung in entry.rungs:
        if rung.withstanding is None:
            yield f"| {escape_markdown(rung.name)} | not run: {escape_markdown(rung.reason)} | | | | |"
        else:
            counts = f"{rung.attacked:g} | {rung.broken:g} | {percent(rung.withstanding)}"
            yield f"| {escape_markdown(rung.name)} | {counts} | {rung.gradients:,.0f} | {rung.queries:,.0f} |"
    yield ""


def _flags(entry: Entry) -> Iterator[str]:
    level = {record.diagnostics.level for record in entry.records}
    if entry.marks:
        yield "Flags of the controls beside the attacks; the attacks may be weaker than they seem:\n"
        yield from (f"- {escape_markdown(mark.flag)}: {escape_markdown(mark.meaning)}" for mark in entry.marks)
    else:
        yield "No controls were run." if level == {"off"} else "The controls beside the attacks raised no flag."
    yield ""


def _again(weights: Weights, entry: Entry) -> Iterator[str]:
    yield "Measure it again:\n"
    yield "```"
    for record in cells(entry.records):
        try:
            request(record)
            again = command(record, str(weights.name))
            yield again if record.dataset.synthetic else f"{again} --data-root FOLDER"
        except BadConfig as error:
            yield f"# {line(str(error))}"
    yield "```"
