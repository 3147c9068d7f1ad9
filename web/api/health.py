"""Health of the farm, for probes and for Prometheus. No key: no secrets."""

from importlib.metadata import version

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm import jobs
from orchestrator.farm.leases import fleet
from web.api.described import REFUSALS, content, operation_id, tag
from web.api.responses import Health
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "health",
    __name__,
    abp_responses=REFUSALS,
    abp_tags=[tag("health")],
    operation_id_callback=operation_id,
)


@bp.get("/healthz", responses={200: Health})
def healthz() -> Response:
    """Say that the database answers."""
    in_thread(jobs.last_event_id, farm())
    return jsonify(status="ok", version=version("framefarm"))


@bp.get("/metrics", responses=content("text/plain", description="In Prometheus' text format."))
def metrics() -> Response:
    """Give the depth of each queue, and the devices idle beside it, to Prometheus."""
    depths = in_thread(fleet.queues, farm())
    lines = []
    for name in ("ready", "leased", "idle_workers"):
        lines += [f"# TYPE framefarm_{name} gauge"]
        lines += [
            f'framefarm_{name}{{queue="{depth.queue}"}} {getattr(depth, name)}' for depth in depths
        ]
    return Response("\n".join(lines) + "\n", mimetype="text/plain; version=0.0.4")
