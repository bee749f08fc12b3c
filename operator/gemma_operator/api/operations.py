"""docs/operations.md: every state a deployment can be found in, what it means, whose move it is, and what to do."""

from gemma_operator.api.reasons import ConditionType, Reason
from gemma_operator.api.remedies import REMEDIES

_HEAD = """\
# Operations: states, reasons and remedies

Made from `gemma_operator/api/reasons.py` and `remedies.py`; a test holds the three equal. Read a deployment as
`kubectl get gd` shows it (REASON is that of `Ready`), then its message with `kubectl describe gd NAME`: the message
names the pod, node, claim or field at fault.

`Stalled` is present where nothing goes on until you act, `Reconciling` where the cluster or the operator is at work.
`Healthy` is the one to be paged by: it is about the endpoint, whatever generation answers."""


def page() -> str:
    """The whole page."""
    lines = [
        _HEAD,
        "",
        "## States",
        "",
        "| condition | true means |",
        "|---|---|",
        *(f"| `{kind.value}` | {kind.meaning} |" for kind in ConditionType),
        "",
        "## Reasons",
        "",
        "| reason | what it means | whose move | what to do |",
        "|---|---|---|---|",
        *(
            f"| `{reason.value}` | {reason.meaning} | {REMEDIES[reason.value].mover.value} "
            f"| {REMEDIES[reason.value].text} |"
            for reason in Reason
        ),
    ]
    return "\n".join(lines) + "\n"
