"""Whether a fit may have its variant's drafter: only where nothing is given up for it.

`speculativeDecoding: Auto` takes a drafter where the catalog holds evidence of what it takes with that engine
version, nothing is known against it, and the settings found without it still hold outside the band. Everywhere
else the fit stays as it is; who wrote Auto is told why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gemma_operator.catalog.records import Catalog, Drafter, DrafterEvidence
from gemma_operator.planner.needs import Needs
from gemma_operator.planner.values import DRAFTING, Drafting, Fit, Request
from gemma_operator.planner.vllm import drafting, kv_cache, overhead, versions
from gemma_operator.planner.words import gib

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a drafter adds on each GPU."""

    drafter: Drafter
    weights_bytes: int
    overhead_bytes: int


class Drafters:
    """Gives the fits of one request their drafters."""

    def __init__(self, request: Request, catalog: Catalog, needs: Needs) -> None:
        self._request = request
        self._engine = catalog.engines[request.engine]
        self._rules = versions.rules(self._engine, request.engine_version)
        self._band_bytes = overhead.band_bytes(self._engine.overhead)
        self._needs = needs
        self._told = DRAFTING in request.named_features

    def added(self, fit: Fit) -> Fit:
        """The fit with its drafter, or as it is."""
        drafter = fit.candidate.variant.drafter
        possible = drafter is not None and drafter.evidence
        # a thousand fits a request: no words are made that nobody reads
        if self._request.speculative_decoding != "Auto" or not (possible or self._told):
            return fit
        found = self._found(fit)
        if isinstance(found, _Taken):
            return self._with(fit, found)
        if not self._told:
            return fit
        return replace(fit, limits=(*fit.limits, f"no drafter: {found}"))

    def _found(self, fit: Fit) -> _Taken | str:
        """What the drafter takes, or why there is none: first what is known of it, then whether there is room."""
        drafter, checkpoint = fit.candidate.variant.drafter, fit.candidate.checkpoint
        if drafter is None:
            return f"{fit.candidate.variant.name} has none"
        if checkpoint is not None and checkpoint.tuning == "Base":
            return f"{drafter.repo} is made for the instruction-tuned model"
        if self._request.own_weights is not None:
            return f"{drafter.repo} is made for the published weights"
        evidence = self._evidence(drafter)
        size = drafting.weights_bytes(drafter, tensor_parallel=fit.candidate.tensor_parallel)
        if evidence is None or size is None:
            version = f"{self._request.engine} {self._request.engine_version}"
            return f"what {drafter.repo} takes of a GPU was not measured with {version}"
        return self._objection(fit) or self._in_room(
            fit, _Taken(drafter, weights_bytes=size, overhead_bytes=int(evidence.overhead_gib * GIB))
        )

    def _evidence(self, drafter: Drafter) -> DrafterEvidence | None:
        version = versions.parse(self._request.engine_version)
        for each in drafter.evidence:
            before = each.before is None or version < versions.parse(each.before)
            if each.engine == self._request.engine and before and version >= versions.parse(each.since):
                return each
        return None

    def _objection(self, fit: Fit) -> str | None:
        """What is known against it there; a warning that only the drafter brings is one too."""
        shape, known, precision = (
            fit.candidate.shape,
            self._needs.compatibility,
            fit.settings.kv_cache_precision,
        )
        assert shape is not None
        refused = known.refusal(fit.candidate, shape, kv_precision=precision, drafting=True)
        if refused is not None:
            return refused
        without = known.warnings(fit.candidate, shape, precision)
        brought = known.warnings(fit.candidate, shape, precision, drafting=True)
        return next((said for said in brought if said not in without), None)

    def _in_room(self, fit: Fit, taken: _Taken) -> _Taken | str:
        row = self._needs.row_of(fit)
        more = taken.weights_bytes + taken.overhead_bytes
        spare = fit.memory.kv_cache_bytes - row.kv_bytes - self._band_bytes
        if more > spare:
            short = gib(-(-(more - spare) // MIB))
            return f"{taken.drafter.repo} would take {short} more of each GPU than the settings leave"
        terms = self._needs.overhead_terms(
            fit.candidate,
            batched_tokens=fit.settings.max_batched_tokens,
            sequences=fit.settings.max_sequences,
        )
        outside = drafting.unprofiled_bytes(taken.drafter, terms)
        percent = fit.settings.utilization_percent
        left_alone = fit.memory.usable_bytes * (100 - percent) // percent
        if outside > left_alone:
            return (
                f"drafts of {fit.settings.max_sequences} sequences take {gib(outside // MIB)} outside "
                f"--gpu-memory-utilization, which leaves {gib(left_alone // MIB)}"
            )
        return taken

    def _with(self, fit: Fit, taken: _Taken) -> Fit:
        memory = fit.memory
        kv_cache_bytes = memory.kv_cache_bytes - taken.weights_bytes - taken.overhead_bytes
        row = self._needs.row_of(fit)
        held = kv_cache.held_by(
            row.layout, available_bytes=kv_cache_bytes, max_model_len=row.context_length, rules=self._rules
        )
        drafter = taken.drafter
        return replace(
            fit,
            settings=replace(fit.settings, drafting=Drafting(drafter.repo, drafter.tokens)),
            memory=replace(
                memory,
                weights_bytes=memory.weights_bytes + taken.weights_bytes,
                kv_cache_bytes=kv_cache_bytes,
                overhead_bytes=memory.overhead_bytes + taken.overhead_bytes,
            ),
            kv_tokens=held.tokens or 0,
            limits=(*fit.limits, f"drafts {drafter.tokens} tokens a step with {drafter.repo}"),
        )
