"""Random operations beside kills, reloads and new versions, against an engine of each version that nobody disturbs.

Some in every test run; `make soak` runs 5,000.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the [serve] extra is not installed")

from tandem.bench.serving.load_generator import Client
from tandem.bench.serving.server_process import HOST, ServerProcess, served
from tandem.engine import Engine
from tandem.engine.build.indexing import index_corpus
from tandem.engine.collection import read_pointer

OPERATIONS = int(os.environ.get("TANDEM_OPERATIONS", "120"))
CLIENTS = 4
# Operations between two disturbances.
CALM = 40
READY_SECONDS = 60.0
WORDS = ("ladder", "kettle", "door", "attic", "barn", "shed", "number")
# What a right request may be told while workers come and go.
BUSY = {429, 503, 504}


@dataclass
class Oracle:
    """An engine for each version that was published."""

    folder: Path
    models: dict[str, Path]
    stack: ExitStack
    engines: dict[str, Engine] = field(default_factory=dict)

    def publish(self, room: str) -> str:
        """A new version of the collection, and its name."""
        rows = [{"_id": f"{room}{i}", "text": f"The {word} number {i} is in the {room}.", "n": i}
                for i, word in zip(range(60), itertools.cycle(WORDS), strict=False)]  # fmt: skip
        corpus = self.folder / "corpus.jsonl"
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
        index_corpus(corpus, self.folder / "c", **self.models)
        version = read_pointer(self.folder / "c")
        assert version is not None
        opened = Engine.open(self.folder / "c", version=version, device="cpu", threads=1, warm_up=False)
        self.engines[version.version] = self.stack.enter_context(opened)
        return version.version


def operation(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """A right request of one of five kinds."""
    text = " ".join(draw.choices(WORDS, k=draw.randint(1, 8)))
    many = [f"{text} {place}" for place in range(draw.randint(1, 12))]
    choices: list[tuple[str, dict[str, Any]]] = [
        ("/v1/search", {"query": text, "budget_ms": None, "top_k": draw.randint(1, 20)}),
        ("/v1/search", {"query": text, "budget_ms": None, "filters": {"n": {"$lt": draw.randint(1, 60)}}}),
        ("/rerank", {"query": text, "texts": many, "raw_scores": True}),
        ("/embed", {"inputs": many}),
        ("/tokenize", {"inputs": many}),
    ]
    return draw.choice(choices)


def check(path: str, asked: dict[str, Any], answer: Any, oracle: Oracle) -> None:
    """An answer is what an undisturbed engine of its version gives."""
    engine = oracle.engines[answer["version"]] if path == "/v1/search" else next(iter(oracle.engines.values()))
    if path == "/v1/search":
        options = {name: value for name, value in asked.items() if name != "query"}
        wanted = engine.search(asked["query"], **options)
        assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in wanted.hits], asked
        found = [hit["score"] for hit in answer["hits"]]
        assert found == pytest.approx([hit.score for hit in wanted.hits], abs=1e-4)
        assert answer["degraded"] is None
    elif path == "/rerank":
        scores = {passage.index: passage.score for passage in engine.rerank(asked["query"], asked["texts"])}
        assert len(answer) == len(asked["texts"])
        assert all(each["score"] == pytest.approx(scores[each["index"]], abs=1e-4) for each in answer)
    elif path == "/embed":
        np.testing.assert_allclose(np.array(answer), engine.embed(asked["inputs"]), atol=1e-4)
    else:
        assert ["".join(token["text"] for token in row if not token["special"]) for row in answer] == [
            text.replace(" ", "") for text in asked["inputs"]
        ]


class Run:
    """One run of the operations on a served collection."""

    def __init__(self, server: ServerProcess, oracle: Oracle, seed: int) -> None:
        self.counts = Counter[str]()
        self.slowest_return = 0.0
        self._server = server
        self._oracle = oracle
        self._draw = random.Random(seed)
        self._client = Client(HOST, server.port)
        self._admin = Client(HOST, server.admin_port)
        self._rooms = itertools.cycle(("barn", "shed", "attic"))
        self._left = OPERATIONS

    async def __call__(self) -> None:
        try:
            while self._left > 0:
                await asyncio.gather(*(self._ask(CALM // CLIENTS) for _ in range(CLIENTS)), self._disturb())
                await self._ready()
        finally:
            self._client.close()
            self._admin.close()

    async def _ask(self, times: int) -> None:
        for _ in range(times):
            self._left -= 1
            path, asked = operation(self._draw)
            try:
                status, body = await self._client.post(path, json.dumps(asked).encode())
            except OSError as error:
                raise AssertionError(f"the HTTP process gave no answer to {path}") from error
            self.counts[str(status)] += 1
            assert status == 200 or status in BUSY, (path, asked, status, body[:300])
            if status == 200:
                await asyncio.to_thread(check, path, asked, json.loads(body), self._oracle)

    async def _disturb(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, 0.2))
        what = self._draw.choice(("kill", "stop", "publish", "reload"))
        self.counts[what] += 1
        if what in ("kill", "stop"):
            with suppress(ProcessLookupError):
                if (worker := self._server.status()["workers"][0]["process"]) is not None:
                    os.kill(worker, signal.SIGKILL if what == "kill" else signal.SIGSTOP)
        elif what == "publish":
            await asyncio.to_thread(self._oracle.publish, next(self._rooms))
        else:
            status, _ = await self._admin.post("/admin/reload", b"{}")
            assert status in (200, 409), status

    async def _ready(self) -> None:
        """Until an operation is answered, whatever was done to the worker."""
        begun = time.monotonic()
        body = json.dumps({"inputs": ["bread"]}).encode()
        while (await self._client.post("/embed", body))[0] != 200:
            assert time.monotonic() - begun < READY_SECONDS
            await asyncio.sleep(0.05)
        self.slowest_return = max(self.slowest_return, time.monotonic() - begun)


def test_every_answer_is_right_whatever_is_done_to_the_worker(
    tmp_path: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path
):
    seed = int(os.environ.get("TANDEM_SEED", "7"))
    with ExitStack() as stack:
        oracle = Oracle(tmp_path, {"encoder": tiny_bi_encoder, "reranker": tiny_cross_encoder}, stack)
        oracle.publish("attic")
        settings = {"device": "cpu", "threads": 1, "warm_up": False, "watchdog_ms": 1000, "swap_poll_ms": 200}
        with served(tmp_path / "c", **settings) as server:
            run = Run(server, oracle, seed)
            asyncio.run(run())
            status = server.status()
    print(f"\n{dict(sorted(run.counts.items()))}, back after {run.slowest_return:.1f} s at most")  # noqa: T201
    assert run.counts["200"] > OPERATIONS // 2
    assert (status["ready"], status["in_flight"]) == (True, 0)
