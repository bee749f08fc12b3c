"""What the other rooms are shown of a deployment after each visit: whom to probe, and what to tell Prometheus. Pure."""

from __future__ import annotations

from gemma_operator.backends.decision import Decision
from gemma_operator.backends.kubernetes.health import health, states
from gemma_operator.backends.kubernetes.snapshot import Replica, Snapshot
from gemma_operator.engines.base import Engine
from gemma_operator.engines.registry import ENGINES
from gemma_operator.metrics.deployments import DeploymentView
from gemma_operator.probing.targets import Target


def targets(snapshot: Snapshot, engine: Engine) -> tuple[Target, ...]:
    """The pods that run and have an address, each asked for the model that it was told to serve, by its own engine.

    By its own word and not the spec's: in a rollout that renames the model the old replicas are still right,
    and what runs is watched on while the spec cannot be read. `engine` is that of pods which do not say. Of an engine
    that this version does not know nothing is asked: its answers would be misread.
    """
    return tuple(
        _target(snapshot, replica, ENGINES.get(replica.engine, engine))
        for replica in snapshot.replicas
        if replica.ip
        and replica.phase == "Running"
        and not replica.terminating
        and (not replica.engine or replica.engine in ENGINES)
    )


def _target(snapshot: Snapshot, replica: Replica, engine: Engine) -> Target:
    return Target(
        pod_uid=replica.uid,
        address=replica.ip,
        port=engine.port,
        engine=engine,
        model_name=replica.model_name,
        token_request=engine.token_request(model_name=replica.model_name),
        pod_ready=replica.ready,
        device_unhealthy=bool(replica.unhealthy_devices),
        # whether it is guarded or not: during a rollout some are and some are not
        headers=(("Authorization", f"Bearer {snapshot.probe_key}"),) if snapshot.probe_key else (),
    )


def view_of(snapshot: Snapshot, decision: Decision, engine: Engine) -> DeploymentView:
    """What Prometheus is told: what was just said where something was said, else what stands."""
    plan = snapshot.current_plan or snapshot.plan
    deployment = snapshot.deployment
    wanted = 0 if deployment is None or deployment.spec.suspend else deployment.spec.replicas
    counted = health(snapshot, wanted=wanted, intent="", port=engine.port)
    if decision.conditions:
        conditions = {str(condition.type): str(condition.status) for condition in decision.conditions}
    else:
        conditions = {said["type"]: said["status"] for said in snapshot.status.get("conditions", ())}
    return DeploymentView(
        backend=plan.backend if plan else "",
        variant=plan.variant if plan else "",
        precision=plan.precision if plan else "",
        engine=plan.engine if plan else "",
        engine_version=plan.engine_version if plan else "",
        pool=f"{plan.pool.source.value}/{plan.pool.name}" if plan else "",
        accelerator=plan.accelerator if plan else "",
        conditions=conditions,
        replicas=states(counted),
        pod_uids=frozenset(replica.uid for replica in snapshot.replicas),
        predicted_kv_tokens=plan.kv_tokens if plan else None,
        startup_seconds={
            said["phase"]: said["seconds"]
            for said in (decision.status.startup if decision.status else snapshot.status.get("startup", ()))
        },
        cost_per_hour=(
            (plan.hourly_cost.currency, float(plan.hourly_cost.amount) * wanted)
            if plan is not None and plan.hourly_cost is not None
            else None
        ),
    )
