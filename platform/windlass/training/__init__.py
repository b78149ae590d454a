"""Data-parallel training under torchrun: the trainer, its checkpoints, and how it is launched."""
