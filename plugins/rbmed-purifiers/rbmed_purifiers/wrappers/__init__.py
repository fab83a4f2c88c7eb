"""Purifiers made of other purifiers, with a vote over the predictions."""
