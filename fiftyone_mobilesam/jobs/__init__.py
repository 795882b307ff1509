"""Labelling jobs that can be killed at any moment: the same call again does only what is missing.

`run.label` is the entry. What is done is known from the labels themselves: each holds a `fingerprint` of its prompts,
of the settings and of the weights, written in the one update that writes the labels.
"""
