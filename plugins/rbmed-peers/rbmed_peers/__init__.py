"""Attacks of other libraries, run by robustbench-med and judged by its harness."""
