"""The four endpoints as MCP tools, called by the real `mcp` client over streamable HTTP. No browser."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


@pytest.fixture(scope="module")
def address(engine) -> Iterator[str]:
    """The app with MCP switched on as README.md says."""
    from erpo_hub.ui import build_demo, launch_kwargs

    demo = build_demo(engines={"builtin:tiny-reasoner": engine})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_MCP_SERVER", "True")
        _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_kwargs())
    yield url
    demo.close()


def over_mcp(url: str, *calls: tuple[str, dict[str, Any]]) -> tuple[dict[str, Any], list[Any]]:
    """(tools by name, results of the calls) of one session."""

    async def session() -> tuple[dict[str, Any], list[Any]]:
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    def run() -> tuple[dict[str, Any], list[Any]]:
        return asyncio.run(asyncio.wait_for(session(), 120))

    with ThreadPoolExecutor(1) as thread:  # this one's loop belongs to the browser, where one is open
        return thread.submit(run).result()


def test_four_tools_with_documented_schemas(address):
    tools, _ = over_mcp(address)
    assert set(tools) == {"trace", "score", "fork", "compare"}
    score = tools["score"]
    assert score.description.startswith("Score a given completion")
    assert score.inputSchema["required"] == ["prompt", "completion"]
    types = {name: p["type"] for name, p in score.inputSchema["properties"].items()}
    assert types == {"prompt": "string", "completion": "string", "model": "string", "temperature": "number"}
    for tool in tools.values():
        assert all(p["description"] for p in tool.inputSchema["properties"].values()), tool.name


def test_a_tool_answers_what_the_endpoint_answers_and_its_trace_can_be_forked(address):
    client = Client(address, verbose=False)
    asked = {"prompt": "7-2*3+4=", "completion": "7-6+4\n1+4\n5", "temperature": 0.8}
    expected = client.predict(**asked, api_name="/score")
    other = expected["topk_ids"][2][1]
    branch = {"trace": expected, "index": 2, "token_id": other, "seed": 3}
    calls = (("score", asked), ("fork", branch), ("score", {"prompt": " ", "completion": "5"}))
    _, (scored, forked, refused) = over_mcp(address, *calls)
    assert not scored.isError
    assert ast.literal_eval(scored.content[0].text) == expected  # Gradio writes a dict as Python does
    tokens = ast.literal_eval(forked.content[0].text)["tokens"]
    assert tokens == client.predict(**branch, api_name="/fork")["tokens"]
    assert tokens[2] == other
    assert refused.isError
    assert refused.content[0].text == "The question is empty: write one, or take an example."
