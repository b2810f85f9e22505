"""Training: losses, schedules, augmentations, one loop, presets; every method trains through the same loop.

Single process for now: gradients are those of one device. Several processes would also have to share the negatives of
the contrastive losses and the batch statistics, so they are refused rather than half done.
"""
