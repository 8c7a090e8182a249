"""The reranker in training: a BERT whose linear layers are base + low rank, with a score after several layers.

The low-rank update is added to the weight once a step rather than applied to every token: at rank 64 of 384 that costs
no more than LoRA's two extra products, and leaves the forward pass of the served model. What is saved is plain LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import BertForSequenceClassification, BertModel
from transformers.models.bert.modeling_bert import BertSelfAttention

from .precision import compute_dtype

TARGETS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
# LoRA's alpha / rank.
SCALE = 2.0


class LowRank(nn.Module):
    """weight → weight + SCALE · B A, computed in float32 and rounded to the compute dtype."""

    def __init__(self, linear: nn.Linear, rank: int, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(linear.in_features)  # PEFT's start: Kaiming-uniform A with a = sqrt(5), zero B
        self.a = nn.Parameter(torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.dtype = dtype

    def forward(self, weight: Tensor) -> Tensor:
        return (weight + SCALE * (self.b @ self.a)).to(self.dtype)


def first_states(bert: BertModel, ids: Tensor, mask: Tensor, segments: Tensor) -> Iterator[Tensor]:
    """[n, hidden] after each layer: the state of [CLS]. What `bert` gives itself, in two thirds of the time.

    In the last layer only [CLS] asks and is asked for: exact, and a seventh of six layers' work. Attention is plain
    products: the fused CPU kernel's backward pass took 28 % of a step (0.41 of 1.43 s for 16 pairs of 160 tokens, bf16,
    one core), these take 0.12 s.
    """
    states = bert.embeddings(input_ids=ids, token_type_ids=segments)
    bias = torch.zeros(mask.shape, dtype=states.dtype).masked_fill(mask == 0, float("-inf"))[:, None, None, :]
    layers = bert.encoder.layer
    for index, layer in enumerate(layers, start=1):
        asking = states[:, :1] if index == len(layers) else states
        attended = layer.attention.output(_attend(layer.attention.self, asking, states, bias), asking)
        states = layer.output(layer.intermediate(attended), attended)
        yield states[:, 0]


def _attend(attention: BertSelfAttention, asking: Tensor, states: Tensor, bias: Tensor) -> Tensor:
    heads, width = attention.num_attention_heads, attention.attention_head_size

    def split(tensor: Tensor) -> Tensor:
        return tensor.view(*tensor.shape[:2], heads, width).transpose(1, 2)

    queries, keys, values = split(attention.query(asking)), split(attention.key(states)), split(attention.value(states))
    weights = (queries @ keys.transpose(2, 3) * width**-0.5 + bias).softmax(dim=-1)
    attended: Tensor = (weights @ values).transpose(1, 2).reshape(*asking.shape)
    return attended


class Head(nn.Module):
    """[CLS] state → score: dense, tanh, linear, as BERT's pooler and classifier."""

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        for linear in (self.dense, self.out):
            nn.init.normal_(linear.weight, std=0.02, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, state: Tensor) -> Tensor:
        scores: Tensor = self.out(torch.tanh(self.dense(state))).squeeze(-1)
        return scores


class Reranker(nn.Module):
    """Scores after the layers `exits` (1 is the first) and after the last."""

    def __init__(
        self,
        base: BertForSequenceClassification,
        *,
        rank: int,
        exits: tuple[int, ...],
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`dtype` of the forward pass; None: `compute_dtype`."""
        super().__init__()
        dtype = dtype or compute_dtype()
        generator = torch.Generator().manual_seed(seed)
        self.exits = exits
        self.rank = rank
        self.bert = base.bert.requires_grad_(False)
        for module in self.bert.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "dropout_prob"):
                # Under one pass over the data there is nothing to overfit, and dropout takes a fifth of a CPU step.
                module.dropout_prob = 0.0
        hidden = base.config.hidden_size
        self.head = Head(hidden, generator)
        if self.bert.pooler is not None:
            self.head.dense.load_state_dict({k: v.float() for k, v in self.bert.pooler.dense.state_dict().items()})
        self.bert.pooler = None
        self.exit_heads = nn.ModuleDict({str(layer): Head(hidden, generator) for layer in exits})
        self.recall_weight_log = nn.Parameter(torch.tensor(math.log(20.0)))
        self.bert.to(dtype)
        self.low_rank = self._attach(rank, dtype, generator)

    def _attach(self, rank: int, dtype: torch.dtype, generator: torch.Generator) -> dict[str, LowRank]:
        attached: dict[str, LowRank] = {}
        for index, layer in enumerate(self.bert.encoder.layer):
            for target in TARGETS:
                linear = layer.get_submodule(target)
                low_rank = LowRank(linear, rank, dtype, generator)
                linear.weight.data = linear.weight.data.float()
                # unsafe: the parametrised weight may be bfloat16 where the stored one is float32
                parametrize.register_parametrization(linear, "weight", low_rank, unsafe=True)
                attached[f"encoder.layer.{index}.{target}"] = low_rank
        return attached

    @property
    def recall_weight(self) -> Tensor:
        """The weight of the cosine in the fused loss, positive."""
        return self.recall_weight_log.exp()

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """float32 [exits + 1, n]: scores of `n` padded pairs (int64 [n, width]) after each exit and the last layer."""
        scores = []
        for layer, state in enumerate(first_states(self.bert, ids, mask, segments), start=1):
            if layer in self.exits:
                scores.append(self.exit_heads[str(layer)](state.float()))
        return torch.stack([*scores, self.head(state.float())])

    def groups(self, rate: float) -> list[dict[str, object]]:
        """Optimizer groups. The recall weight is a logarithm near 3 and may move faster than weights near 0.

        Every layer learns at one rate: with twice the rate for the lowest third, and 7e-4 for the rest, the [CLS]
        states of all pairs became the same within 100 steps, and no layer learnt anything afterwards.
        """
        low_rank = [parameter for module in self.low_rank.values() for parameter in module.parameters()]
        heads = [*self.head.parameters(), *self.exit_heads.parameters()]
        return [
            {"params": low_rank + heads, "lr": rate, "peak": rate},
            {"params": [self.recall_weight_log], "lr": 10 * rate, "peak": 10 * rate, "weight_decay": 0.0},
        ]

    def trained(self) -> dict[str, Tensor]:
        """Every trained tensor by name: what a checkpoint holds."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
