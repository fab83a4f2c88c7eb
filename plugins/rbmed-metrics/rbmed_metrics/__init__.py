"""First-party metrics and reports."""
