"""What each function of torch becomes: ``windows`` reach over time, the others do not."""

from wavenet.conversion.rules import channels, pointwise, shapes, windows
from wavenet.conversion.signals import Rule

RULES: dict[str, Rule] = {
    **windows.RULES,
    **shapes.RULES,
    **channels.RULES,
    **pointwise.RULES,
}
"""By the name of the function."""
