"""Federations for robustbench-med, on Flower's message API."""

import os

# Flower reads this when it is imported, which happens below this package; whoever wants telemetry sets it to 1.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
