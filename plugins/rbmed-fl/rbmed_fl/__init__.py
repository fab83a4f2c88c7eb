"""Federated training for robustbench-med, on Flower's message API."""

import os

# Flower reads this when it is imported, which happens below this package; set it to 1 for telemetry.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
