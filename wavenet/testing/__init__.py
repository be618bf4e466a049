"""``check_causal``: does a block keep the law? For our tests, and for people who write blocks."""

from wavenet.testing.contract import check_causal
from wavenet.testing.probe import TOLERANCE, ContractError

__all__ = ["TOLERANCE", "ContractError", "check_causal"]
