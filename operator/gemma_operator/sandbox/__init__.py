"""A Kubernetes cluster on this machine: a real control plane, a simulated GPU fleet and model servers.

With it everything can be tried and tested without a GPU, a cloud account or root. What it is made of:

- `build`, `golang`: the binaries, built once from pinned Go modules and cached
- `paths`, `locks`, `block`, `processes`, `identities`, `plane`, `starting`, `session`, `status`: one
  sandbox's folder, addresses, processes, users, life
- `fleet`: kwok nodes from a yaml file
- `daemon` with `watching`, `kubelet`, `probes`, `podstatus`, `endpoints`: what stands in for kubelets and for
  the EndpointSlice controller, one process for all pods
- `simulator`: what a simulated model server answers
- `client`, `visit`, `audit`: blocking calls to the API server, `sandbox curl`, who asked what

Kept out: the product. Nothing outside `cli` imports this room, and the operator has no branch for it.
Nothing here knows the planner: a simulated engine refuses memory only because it was told to.
"""
