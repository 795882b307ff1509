"""The Ultralytics-style front: `SAM`, its nested prompts and its results."""
