"""Filters as Haystack writes them, in our form."""

from __future__ import annotations

from typing import Any

from ..errors import InputError

_JOINED = {"AND": "$and", "OR": "$or"}
_COMPARED = {
    "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "in": "$in", "not in": "$nin",
}  # fmt: skip


def translated(filters: Any) -> Any:
    """`filters` in our form: `{"field": "meta.year", "operator": ">=", "value": 2020}` is `{"year": {"$gte": 2020}}`.

    What is no filter of Haystack's is ours already, and stays as it is. Raises InputError for an operator that Haystack
    has not.
    """
    if not isinstance(filters, dict) or not filters.keys() & {"conditions", "value"} or "operator" not in filters:
        return filters
    operator = filters["operator"]
    if "conditions" in filters:
        inner = [translated(each) for each in filters["conditions"]]
        if operator == "NOT":  # of all of them together
            return {"$not": {"$and": inner}}
        return {_known(_JOINED, operator): inner}
    return {_name(filters.get("field")): {_known(_COMPARED, operator): filters["value"]}}


def _known(operators: dict[str, str], operator: Any) -> str:
    if operator not in operators:
        raise InputError(f"filters: operator {operator!r} is none of {', '.join(operators)}")
    return operators[operator]


def _name(field: Any) -> str:
    if not isinstance(field, str):
        raise InputError("filters: a condition needs its field, as in 'meta.year'")
    return field.removeprefix("meta.")
