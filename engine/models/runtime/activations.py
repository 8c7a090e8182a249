"""What a run takes of main memory beside the weights, and so how many long sequences run at once on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InferenceError
from ..artifact import ModelSize

# Rows of the model's width, and of the width between the two layers of its feed-forward part, that are held for each
# token at once. Measured, ONNX Runtime's arena without shrinking, FP32: 80 kB a token of 1,024 and 4,096 wide (82 by
# this), 12 kB of 256 and 512 wide (14), 3 kB of 64 and 128 (3.6).
ROWS, WIDE_ROWS = 8, 3
# Matrices [heads, tokens, tokens] that are held at once where the attention is computed in full.
FULL_SCORES = 5
# Operators of a graph (`Variant.fused`) whose attention is computed in full.
IN_FULL = "AttentionInFull"
# Tokens from which a run gives its memory back: a question with a passage of 512 tokens has fewer. 4,096 tokens of a
# layer of 1,024 wide left 330 MB in ONNX Runtime's arena, and with it 55, in the same time.
LONG = 1024
# What of the free memory the runs of one moment may take: the rest is for what else begins meanwhile.
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes of a run: `token` for each of its tokens, and `square` for each token by each token of one sequence."""

    token: int
    square: int

    @classmethod
    def of(cls, size: ModelSize, *, in_full: bool) -> Activations:
        """Those of a model of this size. `in_full`: its graph holds each token's scores with each other one, as where a
        bias is added to them; else it reads the tokens block by block."""
        token = 4 * (ROWS * size.width + WIDE_ROWS * size.wide)
        return cls(token, 4 * FULL_SCORES * size.heads if in_full else 0)

    def nbytes(self, tokens: int) -> int:
        """Bytes of a run of one sequence of `tokens`."""
        return self.token * tokens + self.square * tokens**2

    def at_once(self, tokens: int, lanes: int, free: int | None) -> int:
        """How many sequences of `tokens` may run at the same time, of at most `lanes`, so that SHARE of `free` bytes
        (None: unknown) holds them; one where a single one takes more.

        Raises InferenceError where even that one does not fit into what is free: the system would end the process.
        """
        needed = self.nbytes(tokens)
        if free is None or lanes * needed <= SHARE * free:
            return lanes
        if needed > free:
            raise InferenceError(
                f"a sequence of {tokens} tokens takes {needed / 2**30:.1f} GiB beside the weights, and "
                f"{free / 2**30:.1f} GiB are free; give shorter texts, or export the model with a smaller --max-length"
            )
        return max(1, int(SHARE * free) // needed)
