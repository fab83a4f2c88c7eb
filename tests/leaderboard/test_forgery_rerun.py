"""Forged submissions whose figures add up: they are not verified by a rerun."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.forgery import (
    Edit,
    Facts,
    Referee,
    elsewhere,
    metric,
    perfect,
    permuted,
    put,
    reindexed,
    relabelled,
    sold_as_full,
)

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.entry import Paper
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.folder import with_known_labels
from robustbench_med.leaderboard.sources.image_results import ImageResults, differences


def careful(change: Edit) -> Callable[[Referee], Edit]:
    """The edit of the images, and every figure computed again from them."""

    def made(referee: Referee) -> Edit:
        def edit(record: Facts, images: Facts) -> None:
            change(record, images)
            referee.recompute(record, images)

        return edit

    return made


def withstands(record: Facts, images: Facts) -> None:
    images["attacked"] = copy.deepcopy(images["clean"])


def withholds(record: Facts, images: Facts) -> None:
    images["attacked"] = ["-" * len(draw) for draw in images["attacked"]]


def one_more(record: Facts, images: Facts) -> None:
    """Within sampling error, on another CPU."""
    elsewhere(record)
    for draw, told in enumerate(images["attacked"]):
        at = next(at for at, (one, label) in enumerate(zip(told, images["labels"], strict=True)) if one != label)
        images["attacked"][draw] = told[:at] + images["labels"][at] + told[at + 1 :]


def plain(edit: Edit) -> Callable[[Referee], Edit]:
    return lambda referee: edit


def spent_more(record: Facts, images: Facts) -> None:
    record["rungs"][0]["gradients_mean"] += 100
    record["spent"]["gradients_mean"] += 100 * record["rungs"][0]["attacked"] / record["n"]


def identified(change: Edit) -> Callable[[Referee], Edit]:
    """The edit, with the id that the cell has then."""

    def made(referee: Referee) -> Edit:
        def edit(record: Facts, images: Facts) -> None:
            change(record, images)
            referee.identify(record, images)

        return edit

    return made


UNVERIFIED: dict[str, Callable[[Referee], Edit]] = {
    "every attacked image withstands": careful(withstands),
    "every attacked image is withheld": careful(withholds),
    "robust images in another place": careful(permuted),
    "one more image withstands, on another CPU": careful(one_more),
    "a better detector": plain(metric("detector_auroc", 0.999)),
    "another ROC curve": plain(lambda record, images: images.update(roc=[[0.0, 1.0], [1.0, 1.0]])),
    "other sizes of networks": plain(put("defense", "parameters", value={"classifier": 1})),
    "another training seed": plain(put("defense", "weights", "seed", value=1)),
    "more gradients spent, on rungs too": plain(spent_more),
    "a control with another result": plain(put("diagnostics", "figures", "noise_accuracy", value=0.123)),
    "a flag taken away": plain(put("diagnostics", "flags", value=[])),
    "an image that another rung broke": plain(put("rungs", 0, "broken", value=0)),
    "the results of another seed": identified(put("seed", value=1)),
    "the results at a smaller eps": identified(put("threat", "eps", value=0.2)),
    "a perfect detector": plain(metric("detector_tpr", 1.0)),
}


@pytest.mark.parametrize("make", UNVERIFIED.values(), ids=UNVERIFIED)
def test_a_forgery_that_adds_up_is_not_verified(referee: Referee, make: Callable[[Referee], Edit]) -> None:
    verdict, notes = referee.verdict(referee.forged(make(referee)))
    assert verdict in ("differs", "within", "digest", "impossible")
    assert notes


def test_a_flag_is_not_taken_away_by_another_cpu(referee: Referee) -> None:
    def edit(record: Facts, images: Facts) -> None:
        elsewhere(record)
        assert record["diagnostics"]["flags"]
        record["diagnostics"]["flags"] = []

    assert referee.verdict(referee.forged(edit))[0] == "differs"


def test_evidence_of_another_data_set_is_refused(referee: Referee) -> None:
    """Its rows have other labels, or are not there."""
    real = referee.forged(lambda record, images: None)
    (record,), (told,) = real.records, real.outcomes.values()
    splits = {referee.split.digest: referee.split}

    def handed_in(images: ImageResults) -> Evidence:
        return Evidence("e", record.cell_id, "sharper", Paper("P", "https://example.org"), "0" * 64, images, images)

    taken = with_known_labels(handed_in(told), record, splits, {}, "e")
    assert taken.outcome.sites == referee.split.sites
    with pytest.raises(DataError, match="the label"):
        with_known_labels(handed_in(replace(told, labels=1 - told.labels)), record, splits, {}, "e")
    further = replace(told, index=tuple(row + 1 for row in told.index))
    with pytest.raises(DataError, match="has image 24; there are 24"):
        with_known_labels(handed_in(further), record, splits, {}, "e")


def test_larger_lesions_are_not_verified() -> None:
    """Results by size of the lesion come from these sizes."""
    labels = np.zeros(2, dtype=np.int8)
    one = ImageResults("0", (0, 1), labels, labels[None], labels[None], lesions={"radius": (4.0, 9.0)})
    assert differences(one, one) == []
    assert differences(replace(one, lesions={"radius": (14.0, 9.0)}), one) == ["radius of the lesions differs"]
    assert differences(one, replace(one, lesions={})) == ["radius of the lesions differs"]


@pytest.mark.parametrize(
    "edit", [perfect, permuted, reindexed, relabelled, sold_as_full], ids=lambda edit: edit.__name__
)
def test_what_the_check_refuses_is_not_verified_either(referee: Referee, edit: Edit) -> None:
    assert referee.verdict(referee.forged(edit))[0] not in ("identical", "within")
