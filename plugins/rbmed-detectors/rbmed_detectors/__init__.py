"""Detectors of adversarial images for robustbench-med."""
