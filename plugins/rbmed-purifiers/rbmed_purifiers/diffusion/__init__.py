"""Diffusion purifiers: samplers that share one U-Net (`rbmed_purifiers.diffusion.purifier`), and a bridge."""
