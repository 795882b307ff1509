"""What the App gets from this plugin."""

from fiftyone_mobilesam.operators.review_panel import ReviewPanel

OPERATORS = ()
PANELS = (ReviewPanel,)
