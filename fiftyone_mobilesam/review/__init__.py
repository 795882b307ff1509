"""Masks looked at one by one, worst first, and decided about."""

from fiftyone_mobilesam.review.review import DECISIONS, SHOW, Review, reviewable_fields

__all__ = ["DECISIONS", "SHOW", "Review", "reviewable_fields"]
