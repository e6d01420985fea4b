"""The Hub's HTTP protocol, as far as huggingface_hub 2.4 uses it for models, datasets and Spaces.

Routes are in the order in which one push meets them. Spaces' settings and Jobs are in `spaces_jobs.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote

import yaml
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from . import xet
from .collections import build_router as collections_router
from .spaces_jobs import build_router as spaces_jobs_router
from .state import LFS_SUFFIXES, Commit, HubState, PullRequest, Repo, StoredFile, large_file, regular_file

REPO = "/api/{kind:str}/{owner:str}/{name:str}"


class HubError(Exception):
    def __init__(
        self, status: int, message: str, code: str | None = None, body: dict[str, Any] | None = None
    ):
        self.status, self.message, self.code, self.body = status, message, code, body or {"error": message}


def build_app(state: HubState) -> FastAPI:
    app = FastAPI()

    @app.exception_handler(HubError)
    async def show(_: Request, error: HubError) -> Response:
        headers = {"X-Error-Message": error.message}
        if error.code:
            headers["X-Error-Code"] = error.code
        return JSONResponse(error.body, status_code=error.status, headers=headers)

    access = Access(state)
    app.include_router(_account_routes(state, access))
    app.include_router(_upload_routes(state, access))
    app.include_router(spaces_jobs_router(state, access))
    app.include_router(collections_router(state, access))
    app.include_router(_read_routes(state, access))
    return app


class Access:
    """Who asks, and what they may touch."""

    def __init__(self, state: HubState):
        self.state = state

    def user(self, request: Request) -> str:
        token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if token not in self.state.tokens:
            raise HubError(
                401,
                "Invalid credentials in Authorization header" if token else "Invalid username or password.",
            )
        return self.state.tokens[token]["name"]

    def repo(self, request: Request, kind: str, owner: str, name: str) -> Repo:
        repo = self.state.repos.get((kind, f"{owner}/{name}"))
        if repo is None or (repo.private and self.user(request) != owner):
            raise HubError(
                404 if request.headers.get("authorization") else 401, "Repository not found", "RepoNotFound"
            )
        return repo

    def writable(self, request: Request, kind: str, owner: str, name: str) -> Repo:
        user = self.user(request)
        repo = self.repo(request, kind, owner, name)
        if user != owner and "create_pr" not in request.query_params:
            raise HubError(403, f"you may not write to {owner}/{name}")
        return repo

    @staticmethod
    def commit(repo: Repo, revision: str) -> Commit:
        commit = repo.resolve(unquote(revision))
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


def _account_routes(state: HubState, access: Access) -> APIRouter:
    router = APIRouter()

    @router.get("/api/whoami-v2")
    def whoami(request: Request) -> dict[str, Any]:
        name = access.user(request)
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "name": name, "fullname": name, "orgs": [], "auth": token}

    @router.post("/api/repos/create")
    async def create(request: Request) -> dict[str, Any]:
        user, body = access.user(request), await request.json()
        kind = body.get("type", "model") + "s"
        owner = body.get("organization") or user
        repo_id = f"{owner}/{body['name']}"
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{state.url}/{prefix}{repo_id}"
        if owner != user:
            raise HubError(
                403, f"you don't have the rights to create a {kind[:-1]} under the namespace {owner!r}"
            )
        if (kind, repo_id) in state.repos:
            raise HubError(409, "You already created this repo", body={"error": "exists", "url": url})
        if kind == "spaces" and body.get("hardware") in state.denied_spaces:
            raise HubError(state.denied_spaces[body["hardware"]], "this hardware needs a paid plan")
        repo = state.create(kind, repo_id, user, private=body.get("visibility") == "private")
        repo.space = {
            "sdk": body.get("sdk"),
            "hardware": body.get("hardware", "cpu-basic"),
            "secrets": {s["key"]: s["value"] for s in body.get("secrets") or []},
            "variables": {v["key"]: v["value"] for v in body.get("variables") or []},
        }
        return {"url": url}

    @router.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        body = await request.json()
        errors = _card_errors(body["content"], body.get("repoType", "model"))
        report = {"errors": [{"message": e} for e in errors], "warnings": []}
        return JSONResponse(report, status_code=400 if errors else 200)

    return router


def _card_errors(content: str, repo_type: str) -> list[str]:
    """The Hub's checks that matter here: YAML that parses, and the types of the keys we write."""
    if not content.startswith("---"):
        return []
    try:
        data = yaml.safe_load(content.split("---", 2)[1]) or {}
    except yaml.YAMLError as error:
        return [f"YAML metadata: {error}"]
    lists = ("tags", "datasets", "language", "metrics", "widget", "model-index", "models")
    errors = [f'"{k}" must be an array' for k in lists if k in data and not isinstance(data[k], list)]
    strings = (
        "license",
        "library_name",
        "pipeline_tag",
        "base_model_relation",
        "sdk",
        "sdk_version",
        "title",
    )
    errors += [f'"{k}" must be a string' for k in strings if k in data and not isinstance(data[k], str)]
    if repo_type == "space" and data.get("sdk") not in {"gradio", "static", "docker"}:
        errors.append('"sdk" is required')
    if len(str(data.get("short_description", ""))) > 60:
        errors.append('"short_description" must be at most 60 characters')
    if data.get("base_model_relation") not in {None, "adapter", "finetune", "merge", "quantized"}:
        errors.append('"base_model_relation" is unknown')
    return errors


def _upload_routes(state: HubState, access: Access) -> APIRouter:
    router = APIRouter()

    @router.post(REPO + "/branch/{branch:str}")
    async def create_branch(
        kind: str, owner: str, name: str, branch: str, request: Request
    ) -> dict[str, Any]:
        repo = access.writable(request, kind, owner, name)
        if unquote(branch) in repo.branches:
            raise HubError(409, "Reference already exists")
        repo.branches[unquote(branch)] = access.commit(
            repo, (await request.json()).get("startingPoint", "main")
        ).oid
        return {}

    @router.post(REPO + "/preupload/{revision:str}")
    async def preupload(kind: str, owner: str, name: str, revision: str, request: Request) -> dict[str, Any]:
        repo = access.writable(request, kind, owner, name)
        files, body = access.commit(repo, revision).files, await request.json()
        answer = []
        for item in body["files"]:
            known = files.get(item["path"])
            mode = "lfs" if item["path"].endswith(LFS_SUFFIXES) or item["size"] > 10_000_000 else "regular"
            row = {"path": item["path"], "uploadMode": mode, "shouldIgnore": False}
            answer.append(row | ({"oid": known.sha256 or known.oid} if known else {}))
        return {"files": answer}

    @router.get(REPO + "/xet-write-token/{revision:str}")
    @router.get(REPO + "/xet-read-token/{revision:str}")
    def xet_token(kind: str, owner: str, name: str, revision: str, request: Request) -> Response:
        if "xet-write-token" in request.url.path:
            access.writable(request, kind, owner, name)
        else:
            access.repo(request, kind, owner, name)
        return xet.token(state.xet_dir)

    @router.post("/{owner}/{name}.git/info/lfs/objects/batch")
    @router.post("/{kind}/{owner}/{name}.git/info/lfs/objects/batch")
    async def lfs_batch(owner: str, name: str, request: Request, kind: str = "models") -> dict[str, Any]:
        access.repo(request, kind, owner, name)
        access.user(request)
        base, objects = str(request.base_url).rstrip("/"), []
        for item in (await request.json())["objects"]:
            row = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in state.blobs:
                row["actions"] = {
                    "upload": {"href": f"{base}/lfs-store/{item['oid']}"},
                    "verify": {"href": f"{base}/lfs-verify/{kind}/{owner}/{name}"},
                }
            objects.append(row)
        return {"transfer": "basic", "objects": objects}

    @router.put("/lfs-store/{oid}")
    async def lfs_put(oid: str, request: Request) -> Response:
        data = await request.body()
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, "content does not match its oid")
        state.blobs[oid] = data
        return Response(status_code=200)

    @router.post("/lfs-verify/{kind}/{owner}/{name}")
    async def lfs_verify(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        access.user(request)
        body = await request.json()
        if len(state.blobs.get(body["oid"], b"")) != body["size"]:
            raise HubError(404, "object not found")
        return {}

    @router.post(REPO + "/commit/{revision:str}")
    async def commit(kind: str, owner: str, name: str, revision: str, request: Request) -> dict[str, Any]:
        repo, user = access.writable(request, kind, owner, name), access.user(request)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        with state.lock:
            return _apply_commit(state, repo, user, unquote(revision), header, lines, request)

    return router


def _apply_commit(
    state: HubState, repo: Repo, user: str, revision: str, header: dict, lines: list[dict], request: Request
) -> dict[str, Any]:
    head = Access.commit(repo, revision)
    as_pull_request = "create_pr" in request.query_params
    if header.get("parentCommit") not in (None, head.oid) and not as_pull_request:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "file":
            files[value["path"]] = regular_file(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in state.blobs and value["oid"] not in xet.file_hashes(state.xet_dir):
                raise HubError(400, f"LFS object {value['oid']} of {value['path']} was never uploaded")
            files[value["path"]] = large_file(value["oid"], value["size"])
        elif key == "deletedFile":
            if files.pop(value["path"], None) is None:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            files = {p: f for p, f in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
    prefix = "" if repo.kind == "models" else f"{repo.kind}/"
    base, pull_url = f"{str(request.base_url).rstrip('/')}/{prefix}{repo.repo_id}", None
    if as_pull_request:
        pull = PullRequest(len(repo.pulls) + 1, header["summary"], user)
        repo.pulls.append(pull)
        revision, pull_url = f"refs/pr/{pull.num}", f"{base}/discussions/{pull.num}"
        repo.branches[revision] = head.oid
    made = repo.add_commit(revision, files, header["summary"], user)
    return {
        "success": True,
        "commitOid": made.oid,
        "commitUrl": f"{base}/commit/{made.oid}",
        "hookOutput": "",
        "pullRequestUrl": pull_url,
    }


def _item(path: str, stored: StoredFile, hashes: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "oid": stored.oid, "size": stored.size}
    if stored.sha256:
        row["lfs"] = {"oid": stored.sha256, "size": stored.size, "pointerSize": 134}
        row |= {"xetHash": hashes[stored.sha256]} if stored.sha256 in hashes else {}
    return row


def _discussion(repo: Repo, one: PullRequest) -> dict[str, Any]:
    return {
        "num": one.num,
        "title": one.title,
        "author": {"name": one.author},
        "createdAt": "2026-01-01T00:00:00.000Z",
        "status": one.status,
        "repo": {"name": repo.repo_id, "type": repo.kind[:-1]},
        "isPullRequest": one.is_pull,
    }


def _read_routes(state: HubState, access: Access) -> APIRouter:
    router = APIRouter()

    @router.get(REPO + "/tree/{revision:str}")
    def tree(kind: str, owner: str, name: str, revision: str, request: Request) -> list[dict[str, Any]]:
        files = access.commit(access.repo(request, kind, owner, name), revision).files
        hashes = xet.file_hashes(state.xet_dir)
        return [_item(path, stored, hashes) for path, stored in sorted(files.items())]

    @router.post(REPO + "/paths-info/{revision:str}")
    async def paths_info(
        kind: str, owner: str, name: str, revision: str, request: Request
    ) -> list[dict[str, Any]]:
        files = access.commit(access.repo(request, kind, owner, name), revision).files
        if request.headers.get("content-type", "").startswith("application/json"):
            wanted = (await request.json())["paths"]
        else:
            wanted = (await request.form()).getlist("paths")
        hashes = xet.file_hashes(state.xet_dir)
        return [_item(path, files[path], hashes) for path in wanted if path in files]

    @router.get(REPO + "/refs")
    def refs(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        repo = access.repo(request, kind, owner, name)
        pulls = {k: v for k, v in repo.branches.items() if k.startswith("refs/pr/")}
        heads = [
            {"name": k, "ref": f"refs/heads/{k}", "targetCommit": v}
            for k, v in repo.branches.items()
            if k not in pulls
        ]
        answer = {"branches": heads, "converts": [], "tags": []}
        if "include_prs" in request.query_params:
            answer["pullRequests"] = [{"name": k, "ref": k, "targetCommit": v} for k, v in pulls.items()]
        return answer

    @router.get(REPO + "/commits/{revision:str}")
    def commits(kind: str, owner: str, name: str, revision: str, request: Request) -> list[dict[str, Any]]:
        repo = access.repo(request, kind, owner, name)
        access.commit(repo, revision)
        when = "2026-01-01T00:00:00.000Z"
        return [
            {"id": c.oid, "authors": [{"user": c.author}], "date": when, "title": c.title, "message": ""}
            for c in repo.history(unquote(revision))
        ]

    @router.get(REPO + "/discussions")
    def discussions(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        repo, query = access.repo(request, kind, owner, name), request.query_params
        rows = [
            _discussion(repo, p)
            for p in repo.pulls
            if query.get("author", p.author) == p.author
            and query.get("status", p.status) == p.status
            and (query.get("type", "all") == "all" or (query["type"] == "pull_request") == p.is_pull)
        ]
        return {"discussions": rows, "count": len(rows), "start": 0}

    @router.post(REPO + "/discussions")
    async def discuss(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        repo, user, body = access.repo(request, kind, owner, name), access.user(request), await request.json()
        made = PullRequest(
            len(repo.pulls) + 1, body["title"], user, is_pull=body["pullRequest"], text=body["description"]
        )
        repo.pulls.append(made)
        return {"num": made.num}

    @router.get(REPO + "/discussions/{num:int}")
    def discussion(kind: str, owner: str, name: str, num: int, request: Request) -> dict[str, Any]:
        repo = access.repo(request, kind, owner, name)
        one = repo.pulls[num - 1]
        data = {"edited": False, "hidden": False, "latest": {"raw": one.text}}
        said = {"id": "1", "type": "comment", "createdAt": "2026-01-01T00:00:00.000Z", "data": data}
        return _discussion(repo, one) | {"events": [said | {"author": {"name": one.author}}]}

    @router.get(REPO)
    @router.get(REPO + "/revision/{revision:str}")
    def info(kind: str, owner: str, name: str, request: Request, revision: str = "main") -> dict[str, Any]:
        repo = access.repo(request, kind, owner, name)
        commit = access.commit(repo, revision)
        when = "2026-01-01T00:00:00.000Z"
        sized = "blobs" in request.query_params
        siblings = [
            {"rfilename": path} | ({"size": file.size} if sized else {})
            for path, file in sorted(commit.files.items())
        ]
        _, *front = (
            (commit.files["README.md"].data or b"").split(b"---") if "README.md" in commit.files else [b""]
        )
        fixed = {"gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "createdAt": when}
        return {
            "id": repo.repo_id,
            "sha": commit.oid,
            "private": repo.private,
            "siblings": siblings,
            **fixed,
        } | ({"cardData": yaml.safe_load(front[0])} if front else {})

    @router.api_route("/{owner}/{name}/resolve/{revision:str}/{path:path}", methods=["GET", "HEAD"])
    @router.api_route("/{kind}/{owner}/{name}/resolve/{revision:str}/{path:path}", methods=["GET", "HEAD"])
    def resolve(
        owner: str, name: str, revision: str, path: str, request: Request, kind: str = "models"
    ) -> Response:
        repo = access.repo(request, kind, owner, name)
        commit = access.commit(repo, revision)
        stored = commit.files.get(unquote(path))
        if stored is None:
            raise HubError(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{stored.sha256 or stored.oid}"'}
        data = stored.data if stored.sha256 is None else state.blobs.get(stored.sha256)
        if stored.sha256:
            headers |= {"X-Linked-Etag": f'"{stored.sha256}"', "X-Linked-Size": str(stored.size)}
            xet_hash = xet.file_hashes(state.xet_dir).get(stored.sha256)
            if xet_hash:
                auth = f"{state.url}/api/{kind}/{repo.repo_id}/xet-read-token/{commit.oid}"
                headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{auth}>; rel="xet-auth"'}
        if request.method == "HEAD" or data is None:
            return Response(headers=headers | {"Content-Length": str(stored.size)})
        return Response(data, headers=headers, media_type="application/octet-stream")

    return router
