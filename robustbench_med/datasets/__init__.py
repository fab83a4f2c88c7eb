"""Data sets, opened and dealt to clients."""
