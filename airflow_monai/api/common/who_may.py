"""Which rights a route asks for, in words, for the document of the APIs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi.routing import APIRoute

from airflow_monai.api.common.access import Right

NOBODY_ASKED = "everybody, without a log-in"
SIGNED_IN = "who is signed in"
_WORDS = {"GET": "read", "POST": "create", "PUT": "edit", "DELETE": "delete"}
ASKED_WITHIN: Mapping[str, tuple[Right, ...]] = {
    "post /workflow-manager/credentials": (Right.ADD_CONNECTIONS,),
    "get /workflow-manager/credentials": (Right.SEE_CONNECTIONS,),
    "get /workflow-manager/credentials/{id}": (Right.SEE_CONNECTIONS,),
    "put /workflow-manager/credentials/{id}": (Right.CHANGE_CONNECTIONS,),
    "delete /workflow-manager/credentials/{id}": (Right.DELETE_CONNECTIONS,),
    "get /mip/runs": (Right.SEE_RUNS,),
    "post /mip/runs": (Right.START_RUNS,),
    "get /mip/runs/{run_id}": (Right.SEE_RUNS,),
    "get /mip/jobs": (Right.SEE_RUNS,),
    "get /mip/jobs/{job_name}": (Right.SEE_RUNS,),
    "get /mip/modules": (Right.SEE_WORKFLOWS,),
    "get /mip/modules/{job_name}": (Right.SEE_RUNS,),
    "get /mip/modules/{job_name}/{module_name}": (Right.SEE_RUNS,),
    "get /mip/maps": (Right.READ_DATA,),
    **{
        f"get /mip/{place}/{{job_name}}/{{module_name}}/{what}": (Right.READ_DATA,)
        for place in ("jobs", "modules")
        for what in ("logs", "outputs", "temps")
    },
    "get /app-server/maps": (Right.SEE_WORKFLOWS,),
    "get /app-server/maps/{name}/{version}": (Right.SEE_WORKFLOWS,),
    "delete /app-server/maps/{name}/{version}": (Right.EDIT_WORKFLOWS,),
    "post /app-server/jobs": (Right.START_RUNS,),
    "get /app-server/jobs": (Right.SEE_RUNS,),
    "get /app-server/jobs/{job_id}": (Right.SEE_RUNS,),
    "post /app-server/jobs/{job_id}/cancel": (Right.CHANGE_RUNS,),
    "post /app-server/jobs/{job_id}/finalize": (Right.CHANGE_RUNS,),
    "get /app-server/jobs/{job_id}/results": (Right.READ_DATA,),
    "get /app-server/jobs/{job_id}/results.zip": (Right.READ_DATA,),
    "get /app-server/jobs/{job_id}/results/{number}": (Right.READ_DATA,),
    "delete /app-server/jobs/{job_id}/results": (Right.CHANGE_RUNS,),
    "get /app-server/jobs/{job_id}/logs": (Right.READ_DATA,),
    "post /app-server/notification-handlers": (Right.START_RUNS,),
    "get /app-server/notification-handlers": (Right.SEE_CONNECTIONS,),
    "get /app-server/notification-handlers/{handler_id}": (Right.SEE_CONNECTIONS,),
    "delete /app-server/notification-handlers/{handler_id}": (Right.DELETE_CONNECTIONS,),
    "post /app-server/notification-handlers/{handler_id}/test": (Right.CHANGE_CONNECTIONS,),
    "get /app-server/notification-handlers/{handler_id}/deliveries": (Right.SEE_CONNECTIONS,),
    "post /app-server/notification-handlers/{handler_id}/deliveries/retry": (Right.CHANGE_CONNECTIONS,),
    "post /workflow-manager/workflows": (Right.EDIT_WORKFLOWS,),
    "post /workflow-manager/workflows/validate": (Right.EDIT_WORKFLOWS,),
    "get /workflow-manager/workflows": (Right.SEE_WORKFLOWS,),
    "get /workflow-manager/workflows/aetitle/{title}": (Right.SEE_WORKFLOWS,),
    "get /workflow-manager/workflows/{workflow_id}": (Right.SEE_WORKFLOWS,),
    "put /workflow-manager/workflows/{workflow_id}": (Right.EDIT_WORKFLOWS,),
    "delete /workflow-manager/workflows/{workflow_id}": (Right.EDIT_WORKFLOWS,),
    "get /workflow-manager/workflows/{workflow_id}/revisions": (Right.SEE_WORKFLOWS,),
    "get /workflow-manager/workflow": (Right.SEE_WORKFLOWS,),
    "get /workflow-manager/workflowinstances": (Right.SEE_RUNS,),
    "get /workflow-manager/workflowinstances/failed": (Right.SEE_RUNS,),
    "get /workflow-manager/workflowinstances/{instance_id}": (Right.SEE_RUNS,),
    "put /workflow-manager/workflowinstances/{instance_id}/executions/{execution_id}/acknowledge": (Right.CHANGE_RUNS,),
    "get /workflow-manager/tasks/stats": (Right.SEE_TASKS,),
    "get /workflow-manager/tasks/statsoverview": (Right.SEE_TASKS,),
    "get /workflow-manager/tasks/dailystats": (Right.SEE_TASKS,),
    "get /workflow-manager/tasks": (Right.SEE_TASKS,),
    "get /workflow-manager/tasks/running": (Right.SEE_TASKS,),
    "get /workflow-manager/tasks/{execution_id}": (Right.SEE_TASKS,),
    "put /workflow-manager/tasks/{execution_id}": (Right.CHANGE_TASKS,),
    "get /workflow-manager/payload": (Right.SEE_RUNS,),
    "get /workflow-manager/payload/{payload_id}": (Right.SEE_RUNS,),
    "get /workflow-manager/payload/{payload_id}/download": (Right.SEE_RUNS, Right.READ_DATA),
    "delete /workflow-manager/payload/{payload_id}": (Right.SEE_RUNS, Right.CHANGE_RUNS),
    "post /workload-manager/sinks": (Right.ADD_CONNECTIONS,),
    "get /workload-manager/sinks/{sink}": (Right.SEE_CONNECTIONS,),
    "delete /workload-manager/sinks/{sink}": (Right.DELETE_CONNECTIONS,),
    "get /workload-manager/sinks/{sink}/tasks": (Right.READ_DATA,),
    "post /workload-manager/sinks/{sink}/tasks/take": (Right.READ_DATA, Right.CHANGE_TASKS),
    "get /workload-manager/sinks/{sink}/tasks/{task_id}": (Right.READ_DATA,),
    "put /workload-manager/sinks/{sink}/tasks/{task_id}": (Right.CHANGE_TASKS,),
    "post /workload-manager/sinks/{sink}/tasks/{task_id}/renew": (Right.CHANGE_TASKS,),
    "post /workload-manager/sinks/{sink}/tasks/{task_id}/return": (Right.CHANGE_TASKS,),
    "get /workload-manager/sinks/{sink}/tasks/{task_id}/files/{number}": (Right.READ_DATA,),
    "get /workload-manager/sinks/{sink}/tasks/{task_id}/files": (Right.READ_DATA,),
    "get /workload-manager/payloads/{payload_id}": (Right.SEE_RUNS,),
    "post /workload-manager/payloads/{payload_id}/resend": (Right.SEE_RUNS, Right.CHANGE_TASKS),
}
"""Of routes that can only say on what they ask for a right when they have looked it up: they ask within."""


def who_may(route: APIRoute, method: str, *, anonymous: bool) -> str:
    """As ``who has the right to read runs``."""
    rights = (*ASKED_WITHIN.get(f"{method} {route.path}", ()), *_needed(route.dependant))
    if rights:
        return "who has the right to " + " and to ".join(map(permission, dict.fromkeys(rights)))
    return NOBODY_ASKED if anonymous else SIGNED_IN


def permission(right: Right) -> str:
    """As ``read task logs``."""
    method, entity = right.value
    what = entity if isinstance(entity, str) else entity.name.lower().replace("_", " ") if entity else "DAG"
    return f"{_WORDS[method]} {what if what.endswith('s') else what + 's'}"


def _needed(dependant: Any) -> Iterator[Right]:
    """What :func:`airflow_monai.api.common.access.needs` asks for."""
    yield from getattr(dependant.call, "rights", ())
    for one in dependant.dependencies:
        yield from _needed(one)
