"""Learning from corrected masks: what `SAM.train` and `mobilesam train` do."""
