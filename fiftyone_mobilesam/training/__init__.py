"""Learning from the masks of a dataset."""
