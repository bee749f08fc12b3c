"""What a plan went through before it was made: pools that were left, and memory that was measured.

In words that stand in the plan's reason, in conditions and in events, so with nothing in them that moves.
"""

from __future__ import annotations

from gemma_operator.planner import correction, left
from gemma_operator.planner.values import Plan


def of(plan: Plan) -> str:
    """Empty for a plan that was the first of its inputs. The last pool that was left is told first."""
    said = [left.words(each) for each in reversed(plan.left)]
    if plan.correction_mib:
        said.append(correction.words(plan.correction_mib))
    return "; ".join(said)
