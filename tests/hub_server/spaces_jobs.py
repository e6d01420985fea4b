"""Settings of Spaces (secrets, variables, hardware, runtime, logs) and Jobs, for the test Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from . import xet
from .state import HubState

SPACE = "/api/spaces/{owner}/{name}"


def _events(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield f"data: {json.dumps({'data': line, 'timestamp': '2026-01-01T00:00:00.000Z'})}\n\n"


def build_router(state: HubState, access: Any) -> APIRouter:
    router = APIRouter()

    @router.get(SPACE + "/runtime")
    def runtime(owner: str, name: str, request: Request) -> dict[str, Any]:
        space = access.repo(request, "spaces", owner, name).space
        hardware = {"current": space["hardware"], "requested": space["hardware"]}
        return {"stage": state.space_stage, "hardware": hardware, "gcTimeout": None}

    @router.post(SPACE + "/hardware")
    async def hardware(owner: str, name: str, request: Request) -> Response:
        space = access.writable(request, "spaces", owner, name).space
        flavor = (await request.json())["flavor"]
        if flavor in state.denied_spaces:
            return JSONResponse({"error": "needs a paid plan"}, status_code=state.denied_spaces[flavor])
        space["hardware"] = flavor
        return JSONResponse({"stage": state.space_stage, "hardware": {"current": None, "requested": flavor}})

    @router.get(SPACE + "/logs/{which}")
    def logs(owner: str, name: str, which: str, request: Request) -> StreamingResponse:
        access.repo(request, "spaces", owner, name)
        return StreamingResponse(_events(state.space_log), media_type="text/event-stream")

    @router.get(SPACE + "/secrets")
    @router.get(SPACE + "/variables")
    def read_settings(owner: str, name: str, request: Request) -> dict[str, Any]:
        space, table = access.repo(request, "spaces", owner, name).space, request.url.path.rpartition("/")[2]
        shown = space[table] if table == "variables" else dict.fromkeys(space[table])
        return {key: {"value": value} for key, value in shown.items()}

    @router.post(SPACE + "/secrets")
    @router.post(SPACE + "/variables")
    async def write_setting(owner: str, name: str, request: Request) -> dict[str, Any]:
        space, table = (
            access.writable(request, "spaces", owner, name).space,
            request.url.path.rpartition("/")[2],
        )
        body = await request.json()
        space[table][body["key"]] = body["value"]
        return {key: {"value": value} for key, value in space[table].items()}

    @router.post("/api/buckets/{namespace}/{name}")
    def create_bucket(namespace: str, name: str, request: Request) -> dict[str, str]:
        access.user(request)
        return {"url": f"{state.url}/buckets/{namespace}/{name}"}

    @router.get("/api/buckets/{namespace}/{name}/xet-write-token")
    def bucket_token(request: Request) -> JSONResponse:
        access.user(request)
        return xet.token(state.xet_dir)

    @router.post("/api/buckets/{namespace}/{name}/batch")
    async def bucket_files(namespace: str, name: str, request: Request) -> dict[str, Any]:
        access.user(request)
        for line in (await request.body()).splitlines():
            state.bucket_files.append(f"{namespace}/{name}/{json.loads(line)['path']}")
        return {"success": True, "failed": []}

    @router.post("/api/jobs/{namespace}")
    async def run_job(namespace: str, request: Request) -> dict[str, Any]:
        access.user(request)
        spec = await request.json()
        job_id = f"job{len(state.jobs) + 1}"
        owner = {"id": "1", "name": namespace, "type": "user"}
        shown = {k: v for k, v in spec.items() if k != "secrets"}
        job = {"id": job_id, "createdAt": None, "owner": owner, "status": {"stage": state.job_stage}, **shown}
        state.jobs[job_id] = {
            "spec": spec,
            "info": job,
            "log": ["===== Job started =====", "step 1/1", "done"],
        }
        return job

    @router.get("/api/jobs/{namespace}")
    def list_jobs(namespace: str, request: Request) -> list[dict[str, Any]]:
        access.user(request)
        jobs = [job["info"] for job in state.jobs.values()]
        return [job for job in reversed(jobs) if job["owner"]["name"] == namespace]

    @router.get("/api/jobs/{namespace}/{job_id}")
    def inspect_job(namespace: str, job_id: str, request: Request) -> dict[str, Any]:
        access.user(request)
        return state.jobs[job_id]["info"]

    @router.get("/api/jobs/{namespace}/{job_id}/logs")
    def job_logs(namespace: str, job_id: str, request: Request) -> StreamingResponse:
        access.user(request)
        return StreamingResponse(_events(state.jobs[job_id]["log"]), media_type="text/event-stream")

    return router
