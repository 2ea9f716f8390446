"""What models of requests and answers have in common: how they are described, and in which forms they are asked."""

import re
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

WHOLE_PATTERN = "-?[0-9]{1,19}"
_DECIMAL_PATTERN = rf"{WHOLE_PATTERN}(?:[.][0-9]{{1,19}})?"


class Described(BaseModel):
    """What is asked or answered; what stands below a field describes it."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Asked(Described):
    """What is asked, also in the forms that real serializers give it; the same for bodies and queries of all routes.

    `null` or an empty text for an optional field is as if it were left out: some know no other way to leave it out. A
    number written as a decimal text is that number.
    """

    @model_validator(mode="before")
    @classmethod
    def _as_serializers_write_it(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        optional, numbers = _forms(cls)
        return {
            name: _number(one, numbers[name]) if name in numbers else one
            for name, one in value.items()
            if not (name in optional and (one is None or one == ""))
        }


@cache
def _forms(model: type[BaseModel]) -> tuple[set[str], dict[str, type[int] | type[float]]]:
    """Its fields that may be left out, and those that are numbers with what they are."""
    fields = model.model_fields.items()
    numbers = {name: kind for name, field in fields if (kind := _kind(field.annotation)) is not None}
    return {name for name, field in fields if not field.is_required()}, numbers


def _kind(annotation: Any) -> type[int] | type[float] | None:
    """What a field is, also where it may be None as well."""
    if annotation is int or annotation is float:
        return annotation
    return next((kind for part in get_args(annotation) if (kind := _kind(part)) is not None), None)


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    """The number that the text is; anything else as it is, for the field to judge."""
    pattern = WHOLE_PATTERN if kind is int else _DECIMAL_PATTERN
    return kind(value) if isinstance(value, str) and re.fullmatch(pattern, value) else value
