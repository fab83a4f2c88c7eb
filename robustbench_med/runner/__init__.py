"""From cells to records: resumed, in order or side by side."""
