"""Pictures of a row of the leaderboard: images, what an attack made of them, and what the defense did about it.

Drawn once, from the weights of the row's record, and kept beside the records; the page only links them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robustbench_med.errors import BadParameter
from robustbench_med.files.atomic import new_folder
from robustbench_med.interfaces.dataset import DataCard
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.render.page.gallery import MANIFEST, Answered, Example, Gallery
from robustbench_med.plugins.references import format_eps
from robustbench_med.reproduction.attacked_images import Seen, candidates, look, strongest
from robustbench_med.reproduction.verify import Verifier
from robustbench_med.training import image_grid

#: Side of a tile in pixels, at most; the quality of a strip, so that a gallery stays small; pixels between tiles.
SIDE, QUALITY, GAP = 128, 60, 2
#: Times as many images as are shown are attacked in search of one that was purified.
MORE = 6


def draw(verifier: Verifier, entry: Entry, folder: Path, images: int = 4, patients: bool = False) -> Path:
    """Draw the gallery of a row: half of its images broken by the attack, half not, where there are such.

    Of a system with a purifier, one of them is an image that it purified under attack, if there is such a one among the
    first `MORE` times as many as are shown.

    Args:
        verifier: opens data and weights.
        entry: the row.
        folder: of all galleries; the row's own folder in it is made anew.
        images: how many.
        patients: also images that are not synthetic; for pages that stay with whoever may see them.

    Returns:
        The row's folder.

    Raises:
        BadParameter: its images may not be shown, or none of its attacks follows a gradient.
        UsageError: the record does not hold the options of its run, or data or weights are not here.
    """
    record = entry.records[0]
    if not (record.dataset.synthetic or patients):
        raise BadParameter(f"{entry.id}: images of {record.dataset.name} are of patients, and are not shown")
    dataset, deployment = verifier.opened(record)
    rung = strongest(verifier.registry, record)
    test, card = dataset.split("test"), dataset.card()
    outcome = entry.outcomes[0] if entry.outcomes else None
    seen: list[Seen] = []
    for count in (2 * images, MORE * images):
        done = {row for each in seen for row in each.rows}
        rows = [row for row in candidates(test, record, outcome, count).tolist() if row not in done]
        for client in sorted({test.sites[row] for row in rows}):
            part = torch.tensor([row for row in rows if test.sites[row] == client])
            seen.append(look(deployment, client, test.select(part), part, rung, record))
        purified = any(each.treated.any() for each in seen) or all(each.purified is None for each in seen)
        if purified and any(not each.withstood.all() for each in seen):
            break
    chosen = choose(seen, images)
    target = folder / entry.id
    with new_folder(target) as draft:
        examples = write(chosen, card, draft)
        licence = record.dataset.licence or "licence not given"
        whose = "synthetic" if record.dataset.synthetic else "images of patients: pass on only what the licence permits"
        told = (
            f"Attacked by {rung.name}, {record.threat.norm.capitalize()} {format_eps(record.threat.eps)}; one "
            f"noise draw. Images: {card.name} ({whose}), {licence}."
        )
        gallery = Gallery(told=told, columns=columns(chosen), examples=examples)
        (draft / MANIFEST).write_text(gallery.model_dump_json() + "\n", encoding="utf-8")
    return target


def choose(seen: Sequence[Seen], images: int) -> list[tuple[Seen, int]]:
    """Images to show, as (client's, number): half of them broken, half not, clients in turn.

    More of one kind where the other is lacking; none that was answered wrong before the attack. One was purified, if
    any was.
    """
    turns = [(at, each) for at in range(max(len(each.truth) for each in seen)) for each in seen if at < len(each.truth)]
    fair = [(each, at) for at, each in turns if each.answers[0, at] == each.truth[at]]
    broken = [pair for pair in fair if not pair[0].withstood[pair[1]]]
    held = [pair for pair in fair if pair[0].withstood[pair[1]]]
    half = images // 2
    first = broken[: max(half, images - len(held))]
    last = held[: images - len(first)]
    if not any(each.treated[at] for each, at in first + last):
        for kind, found in ((last, held), (first, broken)):
            treated = [pair for pair in found if pair[0].treated[pair[1]]]
            if treated and kind:
                kind[-1] = treated[0]
                break
    return first + last


def columns(chosen: Sequence[tuple[Seen, int]]) -> list[str]:
    """What the tiles of a strip are."""
    names = ["clean", "attacked", "perturbation \N{MULTIPLICATION SIGN} 10"]
    names += ["error map of the detector"] if any(each.errors is not None for each, _ in chosen) else []
    names += ["purified"] if any(each.purified is not None for each, _ in chosen) else []
    return names


def write(chosen: Sequence[tuple[Seen, int]], card: DataCard, folder: Path) -> list[Example]:
    """Write a strip for each image; all error maps have one scale."""
    maps = [each.errors[at] for each, at in chosen if each.errors is not None]
    high = float(torch.quantile(torch.stack(maps).flatten(), 0.995)) if maps else 1.0
    names, examples = columns(chosen), []
    for number, (each, at) in enumerate(chosen, 1):
        tiles = [image_grid.grey(each.clean[at : at + 1], 0, 1), image_grid.grey(each.attacked[at : at + 1], 0, 1)]
        tiles.append(image_grid.grey(10 * (each.attacked - each.clean)[at : at + 1], -0.5, 0.5))
        side = each.clean.shape[-1]
        if maps:
            tiles.append(_nothing(side) if each.errors is None else image_grid.heat(each.errors[at : at + 1], high))
        if "purified" in names:
            shown = each.purified is not None and not each.purified[at].isnan().any()
            assert each.purified is not None or not shown
            tiles.append(
                image_grid.grey(each.purified[at : at + 1], 0, 1)
                if shown and each.purified is not None
                else _nothing(side)
            )
        strip = _strip(np.concatenate(tiles))
        file = f"{number}.webp"
        strip.save(folder / file, quality=QUALITY, method=6)
        fate = "withstood" if each.withstood[at] else "broken"
        examples.append(
            Example(
                file=file,
                width=strip.width,
                height=strip.height,
                withstood=bool(each.withstood[at]),
                client=each.client,
                truth=card.classes[int(each.truth[at])],
                threshold=each.threshold,
                before=_answered(each, at, 0, card),
                after=_answered(each, at, 1, card),
                alt=f"an image of {each.client}, {fate}",
            )
        )
    return examples


def _answered(each: Seen, at: int, side: int, card: DataCard) -> Answered:
    """What the system made of an image: before the attack (side 0) or under it (1)."""
    answer, score = int(each.answers[side, at]), float(each.scores[side, at])
    return Answered(
        answer={-1: "no answer", -2: "not finite"}.get(answer) or card.classes[answer],
        alone=card.classes[int(each.alone[side, at])],
        score=score if math.isfinite(score) else None,
        flagged=bool(each.flagged[side, at]) if each.threshold is not None else None,
        purified=None if each.purified is None else bool(each.flagged[side, at]),
    )


def _nothing(side: int) -> image_grid.Tiles:
    """A grey tile, where there is nothing to show."""
    return image_grid.blank(1, side) // 2


def _strip(tiles: image_grid.Tiles) -> Image.Image:
    """Tiles (N, H, W, 3) side by side, thinned out where they are large."""
    tiles = tiles[:, :: max(1, tiles.shape[1] // SIDE), :: max(1, tiles.shape[2] // SIDE)]
    gap = np.full((tiles.shape[1], GAP, 3), 128, dtype=np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))
