"""Purifiers of image processing: nothing is learned, nothing is random."""
