"""A long mixed load: searches, impossible deadlines, clients that leave, bad input, new versions. `make soak` runs it.

TANDEM_SOAK_MINUTES says how long (shared by both kinds of server); without it the test is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h11
import pytest

from tandem.bench.serving.load_generator import Client
from tandem.bench.serving.server_process import HOST, ServerProcess, served
from tandem.engine.build.indexing import index_corpus

pytestmark = pytest.mark.slow
MINUTES = float(os.environ.get("TANDEM_SOAK_MINUTES", "0"))
GROWTH_MB = 50
SWAP_SECONDS = 30
CLIENTS = 8
# What an answer to a right request may be: 429 and 504 under load and impossible deadlines, 503 while a worker is new.
FINE = {200, 429, 503, 504}


def write(path: Path, room: str) -> Path:
    rows = [{"_id": f"{room}{i}", "text": f"The ladder number {i} is in the {room}.", "n": i} for i in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def requests(draw: random.Random) -> tuple[str, bytes, dict[str, str], bool]:
    """A request of one of many kinds: path, body, headers, and whether it is a right one."""
    text = " ".join(draw.choices(("ladder", "kettle", "door", "attic", "barn", "number"), k=draw.randint(1, 60)))
    many = [f"{text} {place}" for place in range(draw.choice((1, 3, 20, 100)))]
    right: list[tuple[str, dict[str, Any]]] = [
        ("/v1/search", {"query": text, "budget_ms": draw.choice((None, 5, 250))}),
        ("/v1/search", {"query": text, "filters": {"n": {"$lt": draw.randint(0, 200)}}}),
        ("/rerank", {"query": "where is it", "texts": many}),
        ("/v2/rerank", {"query": text, "documents": many, "top_n": 3}),
        ("/embed", {"inputs": many}),
        ("/v1/embeddings", {"input": many, "encoding_format": "base64"}),
        ("/tokenize", {"inputs": many}),
    ]
    wrong: list[tuple[str, Any]] = [
        ("/v1/search", {"query": ""}),
        ("/v1/search", {"query": text, "filters": {"$near": 1}}),
        ("/rerank", {"query": text}),
        ("/embed", {"inputs": [1, 2]}),
        ("/v1/rerank", [text]),
        ("/nowhere", {}),
    ]
    headers = {"x-request-timeout-ms": draw.choice(("1", "20", "30000", "30000"))}
    if draw.random() < 0.15:
        path, body = draw.choice(wrong)
        return path, json.dumps(body).encode() if draw.random() < 0.8 else b'{"query": ', headers, False
    path, body = draw.choice(right)
    return path, json.dumps(body).encode(), headers, True


async def ask(client: Client, draw: random.Random, end: float, counts: Counter[str]) -> None:
    while time.monotonic() < end:
        path, body, headers, right = requests(draw)
        leaving = draw.random() < 0.1
        try:
            async with asyncio.timeout(draw.uniform(0.001, 0.05) if leaving else 60):
                status, _ = await client.post(path, body, headers)
        except TimeoutError:
            assert leaving, f"{path} was not answered within a minute"
            counts["left"] += 1
            continue
        except (OSError, h11.ProtocolError) as error:
            counts[type(error).__name__] += 1
            continue
        counts[str(status)] += 1
        assert status in FINE if right else status < 500 or status in FINE, (path, status)


async def soak(server: ServerProcess, seconds: float, seed: int) -> tuple[Counter[str], list[dict[str, float]]]:
    client, counts, memory = Client(HOST, server.port), Counter[str](), []
    end = time.monotonic() + seconds

    async def measure() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(min(5.0, seconds / 20))
            with contextlib.suppress(OSError):
                memory.append(await asyncio.to_thread(server.resident))

    try:
        asking = (ask(client, random.Random(seed + place), end, counts) for place in range(CLIENTS))
        await asyncio.gather(measure(), *asking)
    finally:
        client.close()
    return counts, memory


@pytest.mark.skipif(not MINUTES, reason="minutes long: run `make soak`, or set TANDEM_SOAK_MINUTES")
@pytest.mark.parametrize("supervise", [True, False], ids=["worker", "in process"])
def test_soak(tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, supervise: bool):
    out, models = tmp_path / "c", {"encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}
    index_corpus(write(tmp_path / "corpus.jsonl", "attic"), out, **models)
    seconds, seed = MINUTES * 60 / 2, int(time.time())
    swaps = 0

    async def publish(end: float) -> None:
        nonlocal swaps
        for room in itertools.cycle(("barn", "attic")):
            await asyncio.sleep(min(SWAP_SECONDS, seconds / 4))
            if time.monotonic() > end:
                return
            await asyncio.to_thread(index_corpus, write(tmp_path / "corpus.jsonl", room), out, **models)
            swaps += 1

    async def run(server: ServerProcess) -> tuple[Counter[str], list[dict[str, float]]]:
        publishing = asyncio.create_task(publish(time.monotonic() + seconds))
        try:
            return await soak(server, seconds, seed)
        finally:
            publishing.cancel()

    settings = {"device": "cpu", "threads": 1, "warm_up": False, "supervise": supervise, "timeout_ms": 10_000}
    with served(out, **settings) as server:
        counts, memory = asyncio.run(run(server))
        status = server.status()
    fifth = max(1, len(memory) // 5)
    growth = {
        name: statistics.median(each[name] for each in memory[-fifth:] if name in each)
        - statistics.median(each[name] for each in memory[fifth : 2 * fifth] if name in each)
        for name in ("http", *(["worker"] if supervise else []))
    }
    kinds = dict(sorted(counts.items()))
    print(f"\nseed {seed}: {sum(counts.values())} requests {kinds}, {swaps} versions, growth in MB {growth}")  # noqa: T201
    assert counts["200"] > 0
    assert counts["left"] > 0
    assert counts["504"] > 0
    assert swaps > 0
    assert (status["ready"], status["in_flight"], status["restarts"]) == (True, 0, 0)
    assert all(each < GROWTH_MB for each in growth.values()), growth
