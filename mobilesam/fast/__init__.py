"""The fast path: the same masks as the plain modules up to ties, and which of the two runs."""
