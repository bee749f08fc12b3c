"""What a pod's state means: a reason of the closed list, and a sentence with the remedy. Pure.

Only what Kubernetes shows of a pod is read; words of others pass the scrubber. One module a cause: `engine` (what the
engine said), `hub` (how weights come), `images`, `start` (containers that do not start, or end), `nodes`,
`scheduling`, `admission`. What none of them knows is a crash loop with the engine's own last words.
"""

from gemma_operator.backends.kubernetes.failures.admission import not_made
from gemma_operator.backends.kubernetes.failures.nodes import evicted, refused, unhealthy
from gemma_operator.backends.kubernetes.failures.pods import trouble
from gemma_operator.backends.kubernetes.failures.trouble import Trouble

__all__ = ["Trouble", "evicted", "not_made", "refused", "trouble", "unhealthy"]
