"""Calls every tool of `r1seg mcp` with the Python SDK of the protocol: scripts/check-mcp runs it.

    mcp_client.py R1SEG DESK SEGVOL

DESK holds `scans/ct.nii.gz`, a phantom of the demo model, and `scans/volume.npy`, a volume of SEGVOL.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from mcp import Client, MCPError, StdioServerParameters

LIVER = "Can you segment the liver in this image?"


def server(r1seg: str, desk: Path, *models: str) -> StdioServerParameters:
    args = ["mcp", "--root", str(desk / "scans"), "--out", str(desk / "results"), "--quiet"]
    for model in models:
        args += ["--model", model]
    return StdioServerParameters(command=r1seg, args=args)


def structured(result) -> dict:
    assert not result.is_error, result
    assert result.content[0].text.endswith("no diagnosis."), result.content
    return result.structured_content


def error(result) -> dict:
    assert result.is_error, result
    return json.loads(result.content[1].text)["error"]


async def list_everything(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"list_models", "inspect_volume", "ask_volume", "segment_volume"}, tools
    assert tools["inspect_volume"].annotations.read_only_hint is True
    assert tools["ask_volume"].annotations.read_only_hint is False
    assert tools["ask_volume"].annotations.destructive_hint is False
    models = structured(await client.call_tool("list_models"))["models"]
    assert [model["id"] for model in models] == ["demo", "segvol"], models
    assert client.server_info.name == "r1seg" and "medical device" in client.instructions


async def call_everything(client: Client) -> None:
    found = structured(await client.call_tool("inspect_volume", {"volume": "ct.nii.gz"}))
    assert found["shape"] == [256, 256, 32] and found["spacing_mm"], found

    heard = []

    async def on_progress(progress, total, message):
        heard.append((progress, message))

    args = {"volume": "ct.nii.gz", "questions": [LIVER], "organs": ["Milz"]}
    answer = structured(await client.call_tool("ask_volume", args, progress_callback=on_progress))
    assert "[SEG]" in answer["answers"][0]["text"], answer
    assert [mask["label"] for mask in answer["masks"]] == [1, 2], answer
    for file in answer["files"]:
        assert Path(file["location"]).is_file(), file
    counts = [progress for progress, _ in heard]
    assert counts == sorted(set(counts)) and len(counts) > 3, heard
    messages = " | ".join(message for _, message in heard)
    for stage in ("reading the volume", "encoding the volume", "answering question 1", "writing"):
        assert stage in messages, messages

    args = {
        "volume": "volume.npy",
        "model": "segvol",
        "mode": "resize",
        "targets": [{"text": "liver"}, {"points": [{"voxel": [20, 30, 5]}], "name": "cyst"}],
    }
    masks = structured(await client.call_tool("segment_volume", args))
    assert [answer["prompt"] for answer in masks["answers"]] == ["liver", "cyst"], masks


async def attack(client: Client, desk: Path) -> None:
    (desk / "secret").mkdir(exist_ok=True)
    (desk / "secret" / "ct.nii.gz").write_bytes((desk / "scans" / "ct.nii.gz").read_bytes())
    for name, to in [("link.nii.gz", "secret/ct.nii.gz"), ("folder", "secret")]:
        link = desk / "scans" / name
        if not link.is_symlink():
            link.symlink_to(desk / to)
    paths = [
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "../secret/ct.nii.gz",
        str(desk / "scans" / ".." / "secret" / "ct.nii.gz"),
        str(desk / "secret" / "ct.nii.gz"),
        "link.nii.gz",
        "folder/ct.nii.gz",
        "folder",
        "..",
        "/",
        "file:///etc/passwd",
        "https://example.org/ct.nii.gz",
        "ct.nii.gz\0",
    ]
    for path in paths:
        for tool, args in [
            ("inspect_volume", {}),
            ("ask_volume", {"questions": [LIVER]}),
            ("segment_volume", {"targets": [{"organ": "liver"}]}),
            ("segment_volume", {"volume": "ct.nii.gz", "targets": [{"mask": {"file": path}}]}),
        ]:
            result = await client.call_tool(tool, {"volume": path} | args)
            code = error(result)["code"]
            assert code in ("R-MCP-02", "R-MCP-03", "R-MCP-04"), (path, tool, code)
    fifo = desk / "scans" / "pipe.nii"
    if not fifo.exists():
        os.mkfifo(fifo)
    assert error(await client.call_tool("inspect_volume", {"volume": "pipe.nii"}))["code"] == "R-IN-04", path
    for args in ({}, {"volume": 7}, {"volume": "ct.nii.gz", "questions": "x" * 10}, {"questions": []}):
        assert error(await client.call_tool("ask_volume", args))["code"] == "R-MCP-01", args
    try:
        await client.call_tool("delete_everything", {})
        raise AssertionError("a tool that does not exist")
    except MCPError:
        pass


async def cancel(client: Client, desk: Path) -> None:
    before = sorted((desk / "results").iterdir())
    answering = asyncio.Event()

    async def on_progress(progress, total, message):
        if message.startswith("answering"):
            answering.set()

    args = {"volume": "ct.nii.gz", "questions": [LIVER] * 64}
    call = asyncio.create_task(client.call_tool("ask_volume", args, progress_callback=on_progress))
    await answering.wait()
    call.cancel()
    try:
        await call
        raise AssertionError("the call was cancelled")
    except asyncio.CancelledError:
        pass
    start = time.monotonic()
    # It waits for its turn, which comes once the cancelled call has stopped.
    args = {"volume": "ct.nii.gz", "questions": ["What is this?"], "max_new_tokens": 1}
    structured(await client.call_tool("ask_volume", args))
    seconds = time.monotonic() - start
    after = sorted((desk / "results").iterdir())
    assert len(after) == len(before) + 1, (before, after)
    print(f"  a cancelled call made way within {seconds:.1f} s, another call's own time included")


async def main(r1seg: str, desk: Path, segvol: str) -> None:
    for mode in ("auto", "legacy"):
        async with Client(server(r1seg, desk, "demo", segvol), mode=mode) as client:
            print(f"Python SDK, {mode}: protocol {client.protocol_version}")
            await list_everything(client)
            await call_everything(client)
            await attack(client, desk)
            await cancel(client, desk)
            print("  lists and calls every tool; progress, cancellation, and no path leads out")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
