"""What FiftyOne's App executes again on every request: so no state here, and no import that brings torch."""

from typing import Any


def register(plugin: Any) -> None:
    """Register nothing yet: the plugin has a card and no operators."""
