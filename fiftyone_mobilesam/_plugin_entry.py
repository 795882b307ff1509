"""What FiftyOne's App executes again on every request: so no state here, and no import that brings torch."""

from typing import Any

from fiftyone_mobilesam.operators import OPERATORS, PANELS


def register(plugin: Any) -> None:
    """Register what the plugin's card lists."""
    for operator in (*OPERATORS, *PANELS):
        plugin.register(operator)
