"""Purifiers made of purifiers, whose answers are joined by a vote."""
