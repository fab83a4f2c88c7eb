"""What the page says in words: terms, attackers, columns. One place, so that index, rows and reports say the same."""

from __future__ import annotations

#: Term -> what it means, in a sentence for readers who have never seen such a table.
TERMS = {
    "Clean": "Accuracy on images that nobody attacked.",
    "Claim": "Accuracy under an attacker who sees the classifier only and knows of no defense. "
    "The figure that most papers report.",
    "Worst case": "Share of images still answered right after every attacker has tried, also those who know the "
    "defense. Rows are ranked by it.",
    "Drop": "Claim minus worst case, on the same images: protection that vanishes once the attacker knows of it. "
    "With a large drop the claim does not hold.",
}

#: Rung of the access ladder -> what that attacker sees.
RUNGS = {
    "oblivious": "sees the classifier; knows of no defense",
    "transfer": "sees another classifier, trained on the same data",
    "bpda": "sees the whole system; takes a simple stand-in for the purifier's gradient",
    "full": "sees the whole system and its exact gradient",
    "gate": "as full, and keeps the detector quiet",
    "query": "sees answers only, no gradient",
}

TRACKS = {
    "static": "a classifier alone",
    "deterministic test-time": "images are inspected or changed before they are classified, always alike",
    "randomized test-time": "images are inspected or changed before they are classified, with fresh noise each time",
}

#: How hard was tried.
LADDERS = {
    "ladder:quick": "every attacker, with few steps: shows where a defense gives way, not that it holds",
    "ladder:standard": "every attacker, with at least 20 steps and 16 noise draws in each gradient",
    "ladder:full": "every attacker, with at least 100 steps and 16 noise draws in each gradient; AutoAttack",
    "single rungs": "attackers that were measured one by one, combined image by image",
}

#: Group of columns that can be shown or hidden -> its name; "" is always shown.
GROUPS = {
    "attackers": "Each attacker",
    "lesions": "Lesions",
    "detector": "Detector",
    "clients": "Clients",
    "cost": "Cost",
    "about": "Seeds, paper, date",
}
#: Shown at first; on a phone, none.
SHOWN = ("lesions", "clients")
