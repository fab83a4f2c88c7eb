"""Attacks on one pipeline: what adversaries see, how they are judged, and whether to believe it."""
