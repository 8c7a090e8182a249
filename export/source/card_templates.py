"""Chat templates that stand in a decoder reranker's card as a few lines of Python, and nowhere in its files.

Facts of the models' cards on the Hugging Face Hub, by the end of a name. Written as sentence-transformers wants a
template: messages of the roles query and document, and of the role system for an instruction.
"""

from __future__ import annotations

import re

# A message's content is a text, or a list of parts of which the first has it.
_SAID = (
    "{%- macro said(role, default) -%}{%- set found = messages | selectattr('role', 'equalto', role) | list -%}"
    "{%- if not found -%}{{- default -}}"
    "{%- elif found[0]['content'] is string -%}{{- found[0]['content'] -}}"
    "{%- else -%}{{- found[0]['content'][0]['text'] -}}{%- endif -%}{%- endmacro -%}"
)
_QWEN3 = (
    _SAID + "{{- '<|im_start|>system\\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\\n<|im_start|>user\\n<Instruct>: \' '
    "-}}{{- said('system', 'Given a web search query, retrieve relevant passages that answer the query') -}}"
    "{{- '\\n<Query>: ' -}}{{- said('query', '') -}}{{- '\\n<Document>: ' -}}{{- said('document', '') -}}"
    "{{- '<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}"
)
_CARDS = ((r"Qwen3-Reranker-(0\.6|4|8)B", _QWEN3),)


def card_template(name: str) -> str | None:
    """The chat template of the model `name` (a Hub id or a folder's name) by its card, None where no card is known."""
    last = name.rstrip("/").rsplit("/", maxsplit=1)[-1]
    return next((template for pattern, template in _CARDS if re.fullmatch(pattern, last, re.IGNORECASE)), None)
