"""``check_causal``: verify the contract of causal blocks, ours and those defined elsewhere."""

from wavenet.testing.contract import check_causal
from wavenet.testing.probe import TOLERANCE, ContractError

__all__ = ["TOLERANCE", "ContractError", "check_causal"]
