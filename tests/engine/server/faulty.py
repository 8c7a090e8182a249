"""A worker whose cross-encoder does what a passage tells it to. Run as `python faulty.py FD`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import numpy as np

from tandem.engine.errors import InferenceError
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.scheduling.job import Stop
from tandem.engine.server import worker
from tandem.engine.text.tokens import TokenBatch


def run_until(self: CrossEncoder, batch: TokenBatch, stop: Stop) -> Sequence[np.float32 | InferenceError]:
    """Die, hang, raise, give no number, or take a tenth of a second, where a passage says so."""
    texts = [self.tokenizer.decode(batch[row].tolist()) for row in range(len(batch))]
    said = " ".join(texts)
    if "kill" in said:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in said:
        time.sleep(3600)
    if "slow" in said:
        time.sleep(0.1)
    if "raise" in said:
        raise RuntimeError("the device choked")
    scores = self.runtime.run_until(batch, stop)
    scores[["nan" in text.split() for text in texts[: len(scores)]]] = np.nan
    return self._checked(scores)


if __name__ == "__main__":
    CrossEncoder.run_until = run_until  # type: ignore[method-assign]
    worker.main()
