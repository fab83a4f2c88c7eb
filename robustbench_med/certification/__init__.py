"""Certificates by randomized smoothing: radii inside which the answer provably does not change."""
