"""The published leaderboard: records -> boards -> files.

Everything here works from what is in the folder ``leaderboard`` alone: no torch, no plugins, no registry.
"""
