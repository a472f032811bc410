"""Training: stages, checkpoints that resume exactly, and the log."""
