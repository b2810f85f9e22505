"""The Python interface behind the module `rrcm_bench`: the certifier for any callable, and runs and reports as frames.

images        pixels from an array, a batch or a loader, each with the fingerprint that its noise is keyed by
classifier    any callable from pixels to logits or labels, as the certifier takes it
certificates  what is returned, and its frame
certify       `certify` and `predict`, on the path that every run takes
stored        `load_run`, `load_runs`, `compare` and `report`
"""
