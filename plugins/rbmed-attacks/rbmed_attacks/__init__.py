"""Attacks of robustbench-med that need nothing but torch."""
