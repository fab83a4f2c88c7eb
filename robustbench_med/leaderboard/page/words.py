"""What the page says in words: terms, attackers, columns. One place, so that index, rows and reports say the same."""

from __future__ import annotations

#: Term -> what it means, in a sentence for readers who have never seen such a table.
TERMS = {
    "Claim": "Accuracy when the attacker sees the classifier only and does not know that it is defended. "
    "This is the figure most papers report.",
    "Worst case": "Share of images still answered right after every attacker has tried, including those who know the "
    "defense. An image counts only if no attacker broke it. Rows are ranked by it.",
    "Drop": "Claim minus worst case, on the same images: the protection that vanishes once the attacker knows of it. "
    "A large drop means the claim does not hold.",
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
    "static": "a classifier alone: nothing happens to an image when it is deployed",
    "deterministic test-time": "images are inspected or changed when deployed, each time in the same way",
    "randomized test-time": "images are inspected or changed when deployed, with fresh noise each time",
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
