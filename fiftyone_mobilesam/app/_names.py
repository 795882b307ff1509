"""Names that operators call one another by."""

PLUGIN = "@mobilesam/fiftyone-mobilesam"
ICON = "/assets/icon.svg"


def uri(operator: str) -> str:
    """Return the full name of one of our operators."""
    return f"{PLUGIN}/{operator}"
