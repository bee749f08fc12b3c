"""Weights of the user's own in the place of a published checkpoint: what is planned with, and what shows that they are.

A fine-tune has the shape of its variant and, in the same precision, the size of the catalog's checkpoint: that one is
reckoned with, under the user's own name, and the plan is marked unverified. What is not true of it is found before a
GPU is used: `told_shape` is what its config.json must say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gemma_operator.catalog.records import Checkpoint, Variant

#: What such a plan says after "unverified:".
UNVERIFIED: Final = "own weights, reckoned with as the published ones of their variant and precision"


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """A fine-tune: a repository at a commit, or `claim/path` of a volume, which has none."""

    repo: str
    revision: str | None


def stand_in(own: OwnWeights, published: Sequence[Checkpoint], *, tuning: str) -> list[Checkpoint]:
    """The first published checkpoint of the variant and precision, under the user's own name.

    One of the same tuning where there is one: a base model has no other size. Its chat template is the user's own too.
    """
    of_tuning = [checkpoint for checkpoint in published if checkpoint.tuning == tuning]
    return [
        replace(first, name=own.repo, repo=own.repo, revision=own.revision, chat_template="")
        for first in (of_tuning or list(published))[:1]
    ]


def told_shape(variant: Variant) -> tuple[tuple[str, int], ...]:
    """What a config.json of this variant says, by the names under which the pod's own look reads it."""
    sliding, full = variant.sliding, variant.full
    said = {
        "queryHeads": variant.query_heads,
        "slidingLayers": sliding.layers,
        "slidingKvHeads": sliding.kv_heads,
        "slidingHeadDim": sliding.head_dim,
        "slidingWindow": sliding.window,
        "fullLayers": full.layers,
        "fullKvHeads": full.kv_heads,
        "fullHeadDim": full.head_dim,
    }
    return tuple((name, value) for name, value in said.items() if value is not None)
