"""TEI's tokens: of texts, and back."""

from __future__ import annotations

from typing import cast

from fastapi import Request

from ..admission import CHARACTERS_A_TOKEN
from ..errors import Failure
from ..json_response import Json, Written
from ..response_schemas import TeiToken
from ..rpc_calls import Decode, Tokenize
from .calls import check_prompt
from .shared import Body, IdRows, Ids, Prompted, Served, Texts, client_of, filled, new_router, remaining, target_of

router = new_router("TEI", "tei")
# Characters of a request to /tokenize, in all.
MAX_TOKENIZED = 262_144
# Token ids of a request to /decode, in all.
MAX_IDS = 65_536


class TokenizeBody(Prompted):
    """`inputs`: a text or texts."""

    inputs: str | Texts
    add_special_tokens: bool = True


class DecodeBody(Body):
    """`ids` of one text or of several."""

    ids: Ids | IdRows
    skip_special_tokens: bool = True


@router.post("/tokenize", response_model=list[list[TeiToken]])
async def tokenize(body: TokenizeBody, request: Request, service: Served) -> Written:
    """Token ids with their places in the text, by the encoder's tokenizer."""
    texts = [body.inputs] if isinstance(body.inputs, str) else filled(body.inputs, "inputs")
    wish = body.wish
    with service.lease_for("encoder", target_of(request)) as lease:
        check_prompt(lease.facts.models[0].prompting, wish, "prompt_name")
        service.check_inputs(texts)
        characters = sum(map(len, texts))
        if characters > MAX_TOKENIZED:
            raise Failure(
                "validation",
                f"the texts have {characters} characters; the limit is {MAX_TOKENIZED} a request, since the answer is "
                "some 30 times as large; split the request",
                param="inputs",
            )
        client = client_of(request)
        call = Tokenize(client=client, texts=texts, wish=wish, special=body.add_special_tokens)
        return Written(await service.ask(lease, call, characters // CHARACTERS_A_TOKEN, remaining(request), client))


@router.post("/decode", response_model=list[str])
async def decode(body: DecodeBody, request: Request, service: Served) -> Json:
    """The texts of token ids."""
    ids = filled(body.ids, "ids")
    rows = cast(list[list[int]], [ids] if isinstance(ids[0], int) else ids)
    service.check_count(len(rows), service.settings.max_inputs, "ids")
    service.check_count(sum(map(len, rows)), MAX_IDS, "ids")
    with service.lease_for("encoder", target_of(request)) as lease:
        size = lease.facts.models[0].vocab_size
        if not all(0 <= token < size for row in rows for token in row):
            raise Failure("validation", f"a token id is outside [0, {size})", param="ids")
        client = client_of(request)
        call = Decode(client=client, rows=rows, skip_special=body.skip_special_tokens)
        return Json(await service.ask(lease, call, sum(map(len, rows)), remaining(request), client))
