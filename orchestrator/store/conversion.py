"""The one place where JSON of a row becomes the value that its noun's field is, and back.

A column takes its type from the annotation of the field it holds. What is read was written by
this farm, or by somebody with the database's password: `farm.check` and the receipts' digests are
there to find the latter, so a report that is none any more is read as no report.
"""

from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, ColumnElement, Dialect, TypeDecorator, type_coerce

from orchestrator.model import Lease


class Converted(TypeDecorator[object]):
    """A JSON column of what a field of a noun holds."""

    impl = JSON
    cache_ok = True

    def __init__(self, noun: type, name: str) -> None:
        super().__init__(none_as_null=True)
        self.noun, self.name = noun, name

    def process_bind_param(self, value: object, dialect: Dialect) -> object:
        """Return the field's value as JSON."""
        if value is None:
            return None
        # Whole seconds are as good as fractions of them: no warning of an int for a float.
        return _adapter(self.noun, self.name).dump_python(value, mode="json", warnings=False)

    def process_result_value(self, value: object, dialect: Dialect) -> object:
        """Return the JSON as the field's value."""
        if value is None:
            return None
        try:
            return _adapter(self.noun, self.name).validate_python(value)
        except ValidationError:
            if self.noun is Lease:
                return None
            raise

    def coerce_compared_value(self, op: object, value: object) -> Any:
        """Let SQL look into the JSON as into any other."""
        return self.impl_instance.coerce_compared_value(op, value)  # type: ignore[arg-type]  # SQLAlchemy types it so


def as_stored(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column whose JSON is given as it is."""
    if isinstance(column.type, Converted):
        return type_coerce(column, column.type.impl_instance)
    return column


@cache
def _adapter(noun: type, name: str) -> TypeAdapter[object]:
    return TypeAdapter(get_type_hints(noun)[name])
