"""Collections, for the test Hub: list, make, read, add an item."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from .state import HubState


def build_router(state: HubState, access: Any) -> APIRouter:
    router = APIRouter()

    @router.get("/api/collections")
    def listed(owner: str) -> list[dict[str, Any]]:
        owned = [found for found in state.collections.values() if found["owner"]["name"] == owner]
        return [{k: v for k, v in found.items() if k != "position"} for found in owned]

    @router.post("/api/collections")
    async def make(request: Request) -> JSONResponse:
        user, body = access.user(request), await request.json()
        if body["namespace"] != user:
            return JSONResponse({"error": "not yours"}, status_code=403)
        words = re.sub(r"[^a-z0-9]+", "-", body["title"].lower()).strip("-")
        slug = f"{user}/{words}-{len(state.collections):024x}"
        found = {
            "slug": slug,
            "title": body["title"],
            "description": body.get("description"),
            "owner": {"name": user, "type": "user"},
            "items": [],
            "lastUpdated": "2026-01-01T00:00:00.000Z",
            "position": 0,
            "private": body.get("private", False),
            "theme": "blue",
            "upvotes": 0,
        }
        state.collections[slug] = found
        return JSONResponse(found)

    @router.get("/api/collections/{owner}/{name}")
    def read(owner: str, name: str) -> JSONResponse:
        return JSONResponse(state.collections[f"{owner}/{name}"])

    @router.post("/api/collections/{owner}/{name}/items")
    async def add(owner: str, name: str, request: Request) -> JSONResponse:
        user, body = access.user(request), await request.json()
        found, item = state.collections[f"{owner}/{name}"], body["item"]
        if user != owner:
            return JSONResponse({"error": "not yours"}, status_code=403)
        if (f"{item['type']}s", item["id"]) not in state.repos:
            return JSONResponse({"error": "no such item"}, status_code=404)
        if any(there["id"] == item["id"] and there["type"] == item["type"] for there in found["items"]):
            return JSONResponse({"error": "already there"}, status_code=409)
        note = {"text": body["note"]} if body.get("note") else None
        place = len(found["items"])
        found["items"].append(
            {"_id": str(place), "id": item["id"], "type": item["type"], "position": place, "note": note}
        )
        return JSONResponse(found)

    return router
