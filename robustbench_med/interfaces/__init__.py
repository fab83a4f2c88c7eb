"""What a plugin implements: one small base class per kind.

Images are float32 in [0, 1] with shape (N, C, H, W) everywhere; normalisation belongs inside the model. Labels reach
attacks, metrics and training, never a detector, a purifier or a deployed pipeline.
"""
