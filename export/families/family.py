"""What an export has to know of a family that transformers does not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _embedded(config: Any) -> int | None:
    """Learned positions, or as many as rotations were trained for."""
    return int(config.max_position_embeddings)


def _nothing(config: Any) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of transformer, as transformers computes it.

    name:          for people
    model_types:   what `config.json` calls it
    positions:     the tokens that a configuration has positions for, None for any number
    own_attention: the products of its attention hold more than queries and keys (relative positions), so it is traced
                   as transformers computes it, slower and with all scores in memory
    decoder:       it reads from left to right; its answer is at the last token
    problem:       what of a configuration an export cannot honour, in words, None when there is nothing
    """

    name: str
    model_types: tuple[str, ...]
    positions: Callable[[Any], int | None] = _embedded
    own_attention: bool = False
    decoder: bool = False
    problem: Callable[[Any], str | None] = _nothing


def after_padding(config: Any) -> int:
    """Positions of families that count from `pad_token_id` + 1."""
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


def rotations(config: Any) -> str | None:
    """Rotary positions that change with a text's length cannot be in a graph."""
    said = getattr(config, "rope_parameters", None) or {}
    kinds = said.values() if all(isinstance(each, dict) for each in said.values()) else [said]
    moving = {str(each.get("rope_type")) for each in kinds if each} & {"dynamic", "longrope"}
    return f"its rotary positions ({', '.join(sorted(moving))}) change with a text's length" if moving else None


def one_of(*checks: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """The first problem that `checks` find."""
    return lambda config: next((problem for check in checks if (problem := check(config))), None)


def no_decoder(config: Any) -> str | None:
    """Encoders that were configured to read from left to right."""
    return "it is configured as a decoder (is_decoder)" if getattr(config, "is_decoder", False) else None
