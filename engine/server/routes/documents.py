"""Our own routes that change what is searched: documents are added, replaced and deleted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, FailFast, Field

from ...collection import Document, Updated
from ..errors import Failure
from ..json_response import Json
from ..rpc_calls import Add, Delete
from .shared import OwnBody, Served, Texts, client_of, collection_of, new_router, remaining

router = new_router("documents", "tandem")


class NewDocument(BaseModel):
    """A document: its metadata is what searches can filter by."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


class AddBody(OwnBody):
    """Documents; one whose id is there replaces what is there, so that a request may be sent again."""

    documents: Annotated[list[NewDocument], FailFast()]


class DeleteBody(OwnBody):
    """Which documents to delete: those with these `ids`, and those whose metadata `filters` finds."""

    ids: Texts = Field(default_factory=list)
    filters: dict[str, Any] | None = None


@router.post("/v1/documents", response_model=Updated)
@router.post("/v1/collections/{collection}/documents", response_model=Updated)
async def add(body: AddBody, request: Request, service: Served) -> Json:
    """Add or replace documents: all of them or none. They are on the disk and searched when the answer comes."""
    if not body.documents:
        raise Failure("validation", "documents: give at least one", param="documents")
    documents = [Document(**each.model_dump()) for each in body.documents]
    with service.lease(collection_of(request)) as lease:
        call = Add(client_of(request), documents)
        return Json((await service.add(lease, call, remaining(request))).to_dict())


@router.delete("/v1/documents", response_model=Updated)
@router.delete("/v1/collections/{collection}/documents", response_model=Updated)
async def delete(body: DeleteBody, request: Request, service: Served) -> Json:
    """Delete documents: they are not found any more when the answer comes; one that is not there is counted."""
    if not body.ids and body.filters is None:
        raise Failure("validation", "give ids or filters", param="ids")
    with service.lease(collection_of(request)) as lease:
        call = Delete(client_of(request), body.ids, body.filters)
        return Json((await service.delete(lease, call, remaining(request))).to_dict())
