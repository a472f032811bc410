"""Learning signals of the alignment stage."""
