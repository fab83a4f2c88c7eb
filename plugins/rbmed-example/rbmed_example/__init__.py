"""A plugin to copy: one attack for robustbench-med."""
