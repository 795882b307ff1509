"""How good the masks of a dataset are, measured against masks that a person made or checked."""
