"""What NVIDIA's feature discovery and device plugin make of a machine, written from their source.

Source: NVIDIA/k8s-device-plugin at 1b826acc (2026-08-19): internal/lm/resource.go, internal/lm/mig-strategy.go,
api/config/v1/replicas.go (a shared resource is renamed to `.shared` or not at all). Independent of the package under
test: a node's truth goes in, labels and allocatable come out.
"""

from dataclasses import dataclass, field

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Machine:
    """Cards of one model; those that are cut hold the same slices each."""

    product: str
    memory_mib: int
    capability: tuple[int, int]
    whole: int = 1
    cut: int = 0
    #: Profile to (slices a card, MiB of one); empty on a card that is cut into nothing.
    slices: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """The plugin's configuration."""

    mig_strategy: str = "none"
    sharing: str = "none"
    replicas: int = 1
    #: Resources that are shared.
    shared: tuple[str, ...] = (GPU,)
    rename: bool = False


def labels_and_allocatable(machine: Machine, config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """As both daemons write them."""
    single = config.mig_strategy == "single" and machine.cut > 0
    invalid = single and (machine.whole > 0 or len(machine.slices) != 1)
    labels = _node_labels(machine, config)
    allocatable: dict[str, str] = {}
    if machine.whole and not single:
        labels |= _resource(GPU, machine, config, machine.whole + machine.cut, parts=())
        allocatable |= _offered(GPU, machine.whole, config)
    elif machine.cut:  # sharing is none of a cut card's business
        labels |= _resource(GPU, machine, Config(replicas=0), machine.cut, parts=())
    if invalid:
        labels |= {
            f"{GPU}.product": f"{machine.product}-MIG-INVALID",
            f"{GPU}.count": "0",
            f"{GPU}.replicas": "0",
            f"{GPU}.sharing-strategy": "",
            f"{GPU}.memory": "0",
        }
        return labels, {GPU: "0"}
    for profile, (each, mib) in machine.slices.items() if config.mig_strategy != "none" else ():
        name = GPU if single else f"nvidia.com/mig-{profile}"
        count = each * machine.cut
        labels |= _resource(name, machine, config, count, parts=("MIG", profile))
        labels[f"{name}.memory"] = str(mib)
        allocatable |= _offered(name, count, config)
    return labels, allocatable


def _node_labels(machine: Machine, config: Config) -> dict[str, str]:
    major, minor = machine.capability
    labels = {
        "nvidia.com/cuda.driver-version.major": "580",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mps.capable": str(config.sharing == "mps").lower(),
        f"{GPU}.family": "undefined",
        f"{GPU}.compute.major": str(major),
        f"{GPU}.compute.minor": str(minor),
        f"{GPU}.memory": str(machine.memory_mib),
    }
    return (
        labels
        if config.mig_strategy == "none"
        else {**labels, "nvidia.com/mig.strategy": config.mig_strategy}
    )


def _replicas(name: str, config: Config) -> int:
    if config.sharing == "none":
        return config.replicas
    return config.replicas if name in config.shared else 1


def _resource(
    name: str, machine: Machine, config: Config, count: int, *, parts: tuple[str, ...]
) -> dict[str, str]:
    replicas = _replicas(name, config)
    suffix = ("SHARED",) if replicas > 1 and not config.rename else ()
    return {
        f"{name}.product": "-".join((machine.product, *parts, *suffix)),
        f"{name}.count": str(count),
        f"{name}.replicas": str(replicas),
        f"{name}.sharing-strategy": config.sharing if replicas > 1 else "none",
    }


def _offered(name: str, count: int, config: Config) -> dict[str, str]:
    replicas = _replicas(name, config)
    if replicas > 1 and config.rename:
        return {name: "0", f"{name}.shared": str(count * replicas)}
    return {name: str(count * max(1, replicas))}
