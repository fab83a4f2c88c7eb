"""Which rows come out of which records, and which of them have a rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.records import ladder_record, outcome, plain

from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.grid.ladder import REVISION
from robustbench_med.leaderboard.board import EARLIER, Board
from robustbench_med.leaderboard.entry import Claim, Entry, Paper
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.render.columns import BY_NAME
from robustbench_med.leaderboard.render.data_formats import to_csv, to_json
from robustbench_med.leaderboard.render.latex import to_tex
from robustbench_med.leaderboard.render.markdown import to_markdown
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.records.record import Record

HALF = [True, False] * 8


def only(*records: Record, outcomes: dict[str, Any] | None = None) -> Entry:
    (board,) = boards(records, outcomes)
    (entry,) = board.entries
    return entry


def one_board(*records: Record) -> Board:
    (board,) = boards(records)
    return board


def test_a_ladder_ranks_with_its_figures() -> None:
    entry = only(ladder_record(safe=HALF))
    assert (entry.ranked, entry.rank, entry.ladder, entry.images) == (True, 1, "ladder:quick (revision 2)", 16)
    assert entry.worst is not None
    assert entry.worst.value == 0.5
    assert entry.claim is not None
    assert (entry.claim.value, entry.drop) == (0.5, 0.0)
    assert (entry.rung("query"), entry.rung("full")) == (0.5, None)
    assert (entry.worst_client, entry.gradients, entry.ms) == ("b", 40.0, 125.0)


def ladder(params: dict[str, str]) -> dict[str, Any]:
    return {"name": "ladder", "params_passed": params, "revision": REVISION}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"status": "failed", "reason": "an adversarial image left the ball"},
            "the measurement failed: an adversarial",
        ),
        ({"status": "skipped", "reason": "no weights"}, "not measured: no weights"),
        ({"diagnostics": {"level": "off"}}, "no controls were run"),
        ({"diagnostics": {"level": "cheap", "flags": ["survives-huge-eps"]}}, "a control failed: images were robust"),
        ({"diagnostics": {"level": "cheap", "flags": ["unstable"]}}, "a control failed: the same image"),
        ({"role": "probe"}, "a probe on 8 images"),
        ({"attack": ladder({"preset": "quick", "attack": "noise"})}, "run with noise"),
        ({"attack": ladder({"preset": "easy"})}, "there is no ladder 'easy'"),
        ({"metrics": {"clean_accuracy": 1.0}}, "clean or under attack, is missing"),
        ({"intervals": {"robust_accuracy": (0.9, 0.95)}}, "robust_accuracy does not lie in its interval"),
        ({"limit": 63}, "run on 8 images; this ladder requires 64"),
        ({"attack": ladder({"preset": "full"}), "limit": 64}, "this ladder requires all"),
        ({"rungs": []}, "the rung oblivious is not accounted for"),
    ],
)
def test_what_does_not_hold_has_no_rank(fields: dict[str, Any], why: str) -> None:
    entry = only(ladder_record(**fields))
    assert (entry.ranked, entry.rank) == (False, None)
    assert why in entry.why_not


def test_a_rung_that_leaves_more_than_the_one_before_is_no_ladder() -> None:
    rungs = [rung.model_dump() for rung in ladder_record().rungs]
    rungs[2]["withstanding"] = 0.75
    assert "more images are robust after a later rung" in only(ladder_record(rungs=rungs)).why_not


def test_a_flag_is_a_mark_and_no_refusal() -> None:
    entry = only(ladder_record(diagnostics={"level": "cheap", "flags": ["black-box-wins", "of-tomorrow"]}))
    assert entry.ranked
    assert [mark.flag for mark in entry.marks] == ["black-box-wins", "of-tomorrow"]
    assert "gradients" in entry.marks[0].meaning


def test_one_kind_of_attacker_is_a_claim_without_rank() -> None:
    entry = only(plain("0", HALF))
    assert not entry.ranked
    assert entry.worst is None
    assert entry.claim is not None
    assert "the ladder was not run: query" in entry.why_not


def test_a_control_is_no_attack() -> None:
    entry = only(plain("0", HALF, attack="clamp"))
    assert (entry.why_not, entry.claim) == ("only a control was run, no attack: clamp", None)


def test_attacks_with_several_seeds_on_the_same_weights_are_restarts() -> None:
    first, second = [True] * 12 + [False] * 4, [False] * 4 + [True] * 12
    outcomes = {"0": outcome("0", first), "1": outcome("1", second)}
    records = ladder_record("0", first), ladder_record("1", second).model_copy(update={"seed": 1})
    entry = only(*records, outcomes=outcomes)
    assert entry.worst is not None
    assert (entry.worst.value, entry.seeds, entry.lowered) == (0.5, (0, 1), ("ladder:quick (revision 2): 4 more",))
    noisy = [r.model_copy(update={"metrics": r.metrics | {"robust_any_of_n": 0.5}}) for r in records]
    drawn = only(*noisy, outcomes=outcomes)  # the lower of two shares of a few draws depends on chance
    assert drawn.worst is not None
    assert (drawn.worst.value, drawn.lowered) == (0.75, ())


def test_the_claim_of_a_ladder_is_what_the_same_weights_left_to_one_who_does_not_know() -> None:
    entry = only(ladder_record("0", HALF), plain("1", [True] * 12 + [False] * 4))
    assert entry.claim is not None
    assert (entry.claim.value, entry.claim_attack, entry.drop) == (0.75, "apgd", 0.25)
    other = plain("1", [True] * 12 + [False] * 4, seed=1)  # other weights
    assert only(ladder_record("0", HALF), other).claim_attack == "apgd:steps=20"


def test_the_drop_is_taken_on_the_same_images() -> None:
    safe, many = [False] * 8 + [True] * 8, [False] * 8 + [True] * 24
    outcomes = {"0": outcome("0", safe), "1": outcome("1", many)}
    entry = only(ladder_record("0", safe), plain("1", many), outcomes=outcomes)
    assert entry.claim is not None
    assert (entry.claim.value, entry.drop) == (0.5, 0.0)
    assert entry.claim_all is not None
    assert (entry.claim_all.value, entry.claim_images) == (0.75, 32)
    ladder = ladder_record("0", safe)
    first = ladder.rungs[0].model_copy(update={"withstanding": 0.75})
    alone = only(ladder.model_copy(update={"rungs": [first, *ladder.rungs[1:]]}), plain("1", many))
    assert (first.access, alone.drop) == ("oblivious", 0.25)  # from the ladder's own first rung


def test_an_image_that_any_attack_has_broken_is_broken() -> None:
    first, second = [True] * 12 + [False] * 4, [False] * 4 + [True] * 12
    outcomes = {"0": outcome("0", first), "1": outcome("1", second)}
    entry = only(ladder_record("0", first), plain("1", second), outcomes=outcomes)
    assert entry.worst is not None
    assert (entry.worst.value, entry.lowered) == (0.5, ("oblivious apgd: 4 more",))


def test_a_table_says_which_rows_are_no_better_than_one_answer_to_every_image() -> None:
    safe, above, better = [True] * 8 + [False] * 8, [True] * 12 + [False] * 4, [True] * 16
    labels = np.array([0] * 10 + [1] * 6, dtype=np.int8)
    outcomes = {
        cell: replace(
            outcome(cell, kept), labels=labels, clean=labels[None], attacked=np.where(kept, labels, 1 - labels)[None]
        )
        for cell, kept in (("0", safe), ("1", above), ("2", better))
    }
    records = [ladder_record("0", safe), ladder_record("1", above, name="g"), ladder_record("2", better, name="h")]
    (board,) = boards(records, outcomes)
    (section,) = board.sections
    told = "right for 62.5 %: 2 of 3 rows are not clearly better."
    assert (section.one_answer, section.no_better) == (0.625, 2)  # 75 % of 16 images may be as many
    assert any(told in note for note in section.notes)
    assert told in to_markdown([board])
    assert one_board(ladder_record(safe=safe)).sections[0].one_answer is None  # the labels are not known


def test_single_rungs_combine_image_by_image() -> None:
    first, second = [True] * 12 + [False] * 4, [False] * 4 + [True] * 12
    outcomes = {"0": outcome("0", first), "1": outcome("1", second)}
    both = plain("0", first), plain("1", second, access="query", attack="square")
    entry = only(*both, outcomes=outcomes)
    assert entry.worst is not None
    assert (entry.ranked, entry.worst.value, entry.ladder) == (True, 0.5, "oblivious apgd + query square")
    assert "per-image results are missing" in only(*both).why_not


def test_seeds_are_one_row_and_their_interval_holds_all() -> None:
    records = [
        ladder_record(str(seed), [True] * k + [False] * (16 - k), seed=seed) for seed, k in enumerate((4, 8, 12))
    ]
    entry = only(*records)
    assert entry.train_seeds == (0, 1, 2)
    assert entry.worst is not None
    assert (entry.worst.value, entry.worst.seeds) == (0.5, (0.25, 0.5, 0.75))
    bounds = [record.intervals["robust_accuracy"] for record in records]
    assert entry.worst.interval == pytest.approx((bounds[0][0], bounds[2][1]), abs=1e-11)


def test_a_seed_that_failed_takes_the_rank_of_its_row() -> None:
    failed = ladder_record("1", HALF, seed=1, status="failed", reason="nan")
    assert not only(ladder_record("0", HALF), failed).ranked


def test_the_newest_record_of_a_question_counts() -> None:
    old, new = ladder_record("0", HALF), ladder_record("1", [True] * 16, created="2026-02-01T00:00:00")
    entry = only(new, old)
    assert [record.cell_id for record in entry.records] == ["1"]
    assert entry.date == "2026-02-01"


def test_rows_of_other_images_ladders_or_tracks_are_not_compared() -> None:
    strong = {"attack": ladder({"preset": "standard"})}
    noisy = ladder_record("2", HALF, name="h", metrics=ladder_record(safe=HALF).metrics | {"robust_any_of_n": 0.5})
    board = one_board(
        ladder_record("0", HALF),
        ladder_record("1", HALF, name="g", **strong),
        noisy,
        ladder_record("3", HALF * 2, name="i"),
    )
    found = [(section.track, section.ladder, section.images) for section in board.sections]
    assert found == [
        ("static", "ladder:standard (revision 2)", 16),
        ("static", "ladder:quick (revision 2)", 32),
        ("static", "ladder:quick (revision 2)", 16),
        ("randomized test-time", "ladder:quick (revision 2)", 16),
    ]
    assert all(entry.rank == 1 for entry in board.entries)


def test_what_an_earlier_revision_measured_is_listed_and_not_ranked() -> None:
    before = {"attack": {"name": "ladder", "params_passed": {"preset": "quick"}, "revision": 1}}
    board = one_board(
        ladder_record("0", HALF),
        ladder_record("1", HALF, name="g", **before),
        ladder_record("2", [True] * 16, name="h", **before),
    )
    now, earlier = board.sections
    assert ([entry.rank for entry in now.entries], now.ranked, now.notes[0] == EARLIER) == ([1], True, False)
    assert (earlier.ladder, earlier.ranked, earlier.notes[0]) == ("ladder:quick", False, EARLIER)
    assert [(entry.defense, entry.ranked, entry.rank) for entry in earlier.entries] == [
        ("h", False, None),
        ("g", False, None),
    ]
    assert all("measured with revision 1 of the ladder" in entry.why_not for entry in earlier.entries)
    assert not board.unranked
    for text in (to_markdown([board]), to_csv([board]), to_json([board]), to_tex([board])):
        assert "earlier revision" in text or "revision 1 of the ladder" in text


def test_a_threshold_by_an_earlier_rule_is_not_ranked_either() -> None:
    record = ladder_record("0", HALF)
    parts = record.defense.parts.model_dump() | {"detector": {"name": "d"}, "gate_revision": GATE_REVISION - 1}
    entry = only(ladder_record("0", HALF, defense=record.defense.model_dump() | {"parts": parts}))
    assert f"its threshold follows revision {GATE_REVISION - 1} of the rule" in entry.why_not


def test_boards_are_of_one_data_set_and_threat_model() -> None:
    data = ladder_record().dataset.model_dump() | {"digest": "other"}
    threat = ladder_record().threat.model_dump() | {"eps": 8 / 255}
    found = boards([ladder_record("0"), ladder_record("1", dataset=data), ladder_record("2", threat=threat)])
    assert len(found) == len({board.id for board in found}) == 3
    assert {board.eps_text for board in found} == {"4/255", "8/255"}


def test_an_id_does_not_change_with_the_figures_or_with_more_seeds() -> None:
    alone = only(ladder_record("0", HALF))
    more = only(ladder_record("1", [True] * 16), ladder_record("2", HALF, seed=1))
    assert alone.id == more.id
    assert alone.id != only(ladder_record("0", HALF, name="g")).id


def test_a_worst_case_above_the_clean_accuracy_is_marked() -> None:
    metrics = ladder_record(safe=HALF).metrics | {"clean_accuracy": 0.25}
    entry = only(ladder_record(safe=HALF, metrics=metrics, intervals={}))
    assert [mark.flag for mark in entry.marks] == ["above-clean"]
    assert only(ladder_record(safe=HALF)).marks == ()


def test_intervals_of_images_say_so() -> None:
    record = ladder_record("0", HALF)
    told = only(record)
    assert told.worst is not None
    assert told.worst.by_images
    assert BY_NAME["robust"].text(told).endswith("] by images")
    known = only(record.model_copy(update={"patients": 16}))
    assert known.worst is not None
    assert not known.worst.by_images
    assert BY_NAME["robust"].text(known).endswith("]")
    (board,) = boards([record])
    assert '"by_images": true' in to_json([board])
    assert "clean worst" in to_csv([board])


def test_published_claims_are_shown_next_to_our_rows_and_their_data() -> None:
    claims = (
        Claim("F", "d", "pgd", 0.9, 0.8, "x", defense="f"),
        Claim("G", "z", "", 0.9, 0.8, "", strategy="fedavg"),
        Claim("H", "z", "pgd", 0.9, 0.8, "x", defense="h"),
    )
    published = Publications(claims, {("defense", "f"): Paper("F 2020", "https://example.org")})
    (board,) = boards([ladder_record()], None, published)
    (entry,) = board.entries
    assert ([c.name for c in entry.claims], [c.name for c in board.claims]) == (["F", "G"], ["F"])
    assert entry.paper == Paper("F 2020", "https://example.org")


def test_ranked_boards_come_first_and_patients_before_simulated_images() -> None:
    def on(name: str, *, synthetic: bool, **fields: Any) -> Record:
        made = ladder_record(f"on{name}", safe=HALF, **fields)
        data = made.dataset.model_copy(update={"name": name, "synthetic": synthetic})
        return made.model_copy(update={"dataset": data})

    failed = {"status": "failed", "reason": "no weights"}
    records = [
        on("a", synthetic=False, **failed),
        on("b", synthetic=True),
        on("c", synthetic=False),
        on("d", synthetic=True, **failed),
    ]
    assert [board.dataset for board in boards(records)] == ["c", "b", "a", "d"]
