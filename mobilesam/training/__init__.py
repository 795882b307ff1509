"""Learning from corrected masks: what `SAM.train` and `mobilesam train` do."""

LEAST = 10  # true masks that a training must have
PARTS = 3  # of the images, each left out once
