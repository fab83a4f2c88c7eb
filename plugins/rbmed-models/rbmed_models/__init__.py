"""Classifier architectures for robustbench-med."""
