"""Names that operators call one another by, and what the cards of those that take a while have in common."""

from fiftyone.operators import types

PLUGIN = "@mobilesam/fiftyone-mobilesam"
ICON = "/assets/icon.svg"
LONG = {"icon": ICON, "dynamic": True, "execute_as_generator": True, "risk_level": types.RiskLevel.MEDIUM}


def uri(operator: str) -> str:
    """Return the full name of one of our operators."""
    return f"{PLUGIN}/{operator}"
