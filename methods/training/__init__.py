"""Training: each method's loss beside its recipe, presets of their settings, and the one loop that all train through.

A step may be cut into micro-batches and, under torchrun, over processes. Noise, views and the negatives of contrastive
losses are then those of the whole batch, or the stage refuses (settings.StageSettings); batch norm sees the images of
all processes, but one micro-batch at a time, which is printed and recorded.
"""
