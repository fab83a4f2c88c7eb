"""Purifiers for robustbench-med."""
