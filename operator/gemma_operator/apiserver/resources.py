"""Names and addresses of every resource that the operator touches.

A resource is a value; building its URL is the only thing it does. Nothing here asks the server what it
serves: what must exist is checked at start by whoever needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API: enough to build its URL and to name it in a message."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests spell it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """As RBAC messages and kubectl spell it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path below the server's address. Without a namespace it reaches over all of them."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


GEMMA_DEPLOYMENTS = Resource("gemma-operator.io", "v1alpha1", "gemmadeployments", "GemmaDeployment")
ACCELERATOR_POOLS = Resource(
    "gemma-operator.io", "v1alpha1", "acceleratorpools", "AcceleratorPool", namespaced=False
)

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
JOBS = Resource("batch", "v1", "jobs", "Job")
SECRETS = Resource("", "v1", "secrets", "Secret")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

#: Our own two kinds, which kopf watches.
OURS: tuple[Resource, ...] = (GEMMA_DEPLOYMENTS, ACCELERATOR_POOLS)

#: What we make for a GemmaDeployment: kept in caches by label.
CHILDREN: tuple[Resource, ...] = (
    DEPLOYMENTS,
    SERVICES,
    SERVICE_ACCOUNTS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    JOBS,
)

#: What a cluster may have and may lack, each with its versions, the newest first.
RESOURCE_SLICES: tuple[Resource, ...] = tuple(
    Resource("resource.k8s.io", version, "resourceslices", "ResourceSlice", namespaced=False)
    for version in ("v1", "v1beta2", "v1beta1")
)
NODE_POOLS: tuple[Resource, ...] = (
    Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False),
)
NODE_CLAIMS: tuple[Resource, ...] = (
    Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False),
)
COMPUTE_CLASSES: tuple[Resource, ...] = (
    Resource("cloud.google.com", "v1", "computeclasses", "ComputeClass", namespaced=False),
)

BY_KIND: dict[str, Resource] = {
    resource.kind: resource
    for resource in (
        *OURS,
        *CHILDREN,
        NODES,
        PODS,
        EVENTS,
        ENDPOINT_SLICES,
        PERSISTENT_VOLUME_CLAIMS,
        SECRETS,
        LEASES,
        RESOURCE_QUOTAS,
        LIMIT_RANGES,
        CUSTOM_RESOURCE_DEFINITIONS,
    )
}
