"""Texts of the page: terms, attackers, columns. Index, rows and reports use the same."""

from __future__ import annotations

#: Term -> what it means, in a sentence for readers who have never seen such a table.
TERMS = {
    "Clean": "Accuracy on images without an attack.",
    "Claim": "Accuracy under an attacker who sees the classifier only and does not know the defense. "
    "The figure that most papers report.",
    "Worst case": "Share of images that remain correct after all attackers, also those who know the defense. "
    "Rows are ranked by it; its 95 % interval counts patients where they are known.",
    "Drop": "Claim minus worst case, on the same images: protection that is lost once the attacker knows the defense.",
}

#: Above the ranks.
RANK = (
    "One plus the number of rows that are significantly better. =: at least one other is not significantly different."
)

#: Other terms, in a sentence each; docs/glossary.md has them all.
GLOSSARY = {
    "cell": "One measurement: a defense on a data set against an attack under a threat model.",
    "rung": "One kind of attacker, by what it sees of the defense. The ladder is all of them, worst case per image.",
    "probe": "A quick ladder on a few images: it can show a weakness, but not its absence.",
    "withheld": "A system may withhold an answer. Under attack that counts as correct if it answers the same image "
    "right without an attack; 'answered right' counts right answers only.",
    "too few": "A client with fewer than 20 images: its figure says little.",
    "client": "A hospital that trains with others without sharing its images; where a data set names no hospitals, a "
    "share of its images that stands for one.",
    "patients": "The images of one patient are alike, so that intervals count patients. 'by images': patients are not "
    "recorded, and the interval is too narrow.",
    "training": "Weights depend on chance: another training of the same recipe has other figures. A row of several is "
    "their mean, and its interval reaches from the lowest to the highest bound of theirs.",
    "fold": "A share of the patients that is tested by weights which were trained on the others; all folds together "
    "test each image once.",
    "one answer": "What is right if every image gets the same answer, the most frequent class. A defense that keeps no "
    "more is of no use under attack.",
    "sens., spec.": "Share of the images with a lesion, and of those without one, that stay correct in the worst case.",
    "eps": "Largest change of an image, in units of pixels in [0, 1].",
}

#: Rung of the access ladder -> what that attacker sees.
RUNGS = {
    "oblivious": "sees the classifier; does not know the defense",
    "transfer": "sees another classifier, trained on the same data",
    "insider": "sees the classifiers of other clients of the federation, not the attacked one's",
    "boundary": "sees the classifier's gradient and the whole system's answers; aims at barely wrong answers",
    "bpda": "sees the whole system; approximates the purifier's gradient by a simple stand-in",
    "gate": "sees classifier and detector with their gradients; aims at wrong answers that are not flagged",
    "full": "sees the whole system and its exact gradient",
    "query": "sees the outputs only, no gradient",
}

#: Track -> what people call it, where there is room for a few words.
KINDS = {
    "static": "Classifier alone",
    "deterministic test-time": "Defense at test time, deterministic",
    "randomized test-time": "Defense at test time, randomized",
}

TRACKS = {
    "static": "a classifier alone",
    "deterministic test-time": "images are inspected or changed before they are classified, each time in the same way",
    "randomized test-time": "images are inspected or changed before they are classified, with fresh noise each time",
}

#: Ladder -> its strength.
LADDERS = {
    "ladder:quick": "every attacker, with few steps: can show that a defense fails, not that it is robust",
    "ladder:standard": "every attacker, with at least 40 steps; where noise is drawn, 300 gradients of each image",
    "ladder:full": "every attacker, with more steps or noise draws than in ladder:standard; AutoAttack",
    "single rungs": "attackers that were measured one by one, combined image by image",
}

#: Group of columns that can be shown or hidden -> its name; "" is always shown.
GROUPS = {
    "attackers": "Each attacker",
    "lesions": "Lesions",
    "detector": "Detector",
    "clients": "Clients",
    "withheld": "Withheld answers",
    "cost": "Cost",
    "about": "Images, seeds, paper, date",
}
#: Shown at first; on a phone, none.
SHOWN = ("lesions", "clients")
