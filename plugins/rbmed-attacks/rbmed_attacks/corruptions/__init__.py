"""Changes that are no ball around an image: corruptions of fixed severity, and artefacts of an MRI acquisition."""
