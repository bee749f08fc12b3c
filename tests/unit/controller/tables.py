"""The tables that one GemmaDeployment is read from, as small as a test needs them."""

from __future__ import annotations

from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.caches import Caches
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.observe import Sources, observe
from gemma_operator.settings import OperatorSettings
from snapshots import a_child
from unit.controller.builders import a_gd

#: The children of GemmaDeployment Llm.v2.
CHILD = Key("team", "llm-v2")


class Table:
    """Records by place and by index, as a cache gives them."""

    def __init__(self, *, at=(), by=()):
        self._at = dict(at)
        self._by = list(by)

    def get(self, namespace, name):
        return self._at.get((namespace, name))

    def by(self, value):
        return tuple(record for index, record in self._by if index == value)


def a_kind(kind, **annotations):
    manifest = {"kind": kind, "metadata": {"name": CHILD.name, "annotations": annotations}}
    return a_child(manifest, owned_hash="x")


class Tables:
    """Everything that `observe` reads, empty until a test fills it."""

    def __init__(self):
        self.children = {}
        self.pods = []
        self.slices = []
        self.facts = {}
        self.placements = {}
        self.status_plan = None
        self.known = True

    def sources(self):
        kinds = ("Deployment", "Service", "PodDisruptionBudget")
        at = {
            kind: {(CHILD.namespace, CHILD.name): self.children[kind]}
            for kind in kinds
            if kind in self.children
        }
        return Sources(
            caches=Caches(
                nodes=Table(),
                pods=Table(by=self.pods),
                children={kind: Table(at=at.get(kind, {})) for kind in kinds},
                slices=Table(by=self.slices),
                quotas=Table(),
                limit_ranges=Table(),
                claims=Table(),
                resource_slices=Table(),
                nodepools=Table(),
                nodeclaims=Table(),
                computeclasses=Table(),
            ),
            inputs=InputsOf(OperatorSettings()),
            facts=self.facts.get,
            placement=self.placements.get,
            plan_from_status=lambda _obj: self.status_plan,
            pool_known=lambda _plan: self.known,
            answers=lambda: {"uid": ("a", "b")},
            contests=lambda owner, now: {},
            living_uids=lambda namespace: frozenset({f"living in {namespace}"}),
            schema_gaps=lambda obj: (obj["metadata"]["name"],),
            settings=OperatorSettings(probe_period_seconds=7),
        )

    def seen(self, obj=None, **more):
        return observe(obj or a_gd("Llm.v2"), self.sources(), **more)
