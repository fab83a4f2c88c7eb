"""Data sets: opened, and their patients assigned to clients."""
