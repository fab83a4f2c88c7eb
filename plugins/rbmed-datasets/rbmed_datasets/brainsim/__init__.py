"""brainsim: simulated brain MRI of four hospitals (see docs/brainsim.md)."""
