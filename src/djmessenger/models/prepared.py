"""Queries of the ORM that are built once: for what each message asks, building costs more than asking."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import connections, models, router
from django.db.models.expressions import Expression
from django.db.models.lookups import Lookup
from django.db.models.query import ModelIterable
from django.db.transaction import TransactionManagementError

M = TypeVar("M", bound=models.Model)


class Given(Expression):
    """A value that a prepared query gets when it runs; stands in a filter where the value would."""

    def __init__(self, name: str, output_field: models.Field[Any, Any] | None = None) -> None:
        super().__init__(output_field=output_field or models.BigIntegerField())
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Stand as a parameter, which each run replaces by its value."""
        return "%s", (self,)

    def value_of(self, value: Any) -> Any:
        return value


class Several(Given):
    """Any number of values, for ``Among``: they travel as one, so that the statement is the same for all numbers."""

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Stand as a subquery of the values in one JSON parameter."""
        if connection.vendor == "sqlite":
            return "(SELECT value FROM json_each(%s))", (self,)
        kind = self.output_field.db_type(connection)
        return f"(SELECT CAST(jsonb_array_elements_text(%s::jsonb) AS {kind}))", (self,)

    def value_of(self, value: Iterable[Any]) -> str:
        return json.dumps(list(value))


class Among(Lookup):
    """Whether something is one of ``Several`` values, or of those of a query.

    In PostgreSQL they are an array, for which it looks up each in the index. To a subquery it might join the whole
    table, going by what it last counted there.
    """

    def __init__(self, name: str, values: Several | models.QuerySet[Any, Any]) -> None:
        super().__init__(models.F(name), values)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """Compare with an array in PostgreSQL, with a subquery in SQLite."""
        left, parameters = self.process_lhs(compiler, connection)
        values, more = self.process_rhs(compiler, connection)
        one_of = f"IN {values}" if connection.vendor == "sqlite" else f"= ANY(ARRAY{values})"
        return f"{left} {one_of}", (*parameters, *more)


class Prepared(Generic[M]):
    """A query that is compiled at its first run on a database; it asks the one that its model is written to.

    ``build`` gives it, with ``Given`` and ``Several`` in the place of what each run is told by their names.
    """

    def __init__(self, model: type[M], build: Callable[[], models.QuerySet[M, Any]]) -> None:
        self._model = model
        self._build = build
        self._compiled: dict[str, tuple[Any, str, list[Any]]] = {}

    def __call__(self, **values: Any) -> list[M]:
        """Run it; give its rows as instances."""
        compiler, rows = self._run(values)
        # Django's own way from rows to instances, with the rows that are here.
        compiler.execute_sql = lambda **_: [rows]
        query: Any = SimpleNamespace(get_compiler=lambda using: compiler)
        return list(ModelIterable(models.QuerySet(self._model, query=query, using=compiler.using)))

    def rows(self, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query of ``values_list``; give its rows as tuples."""
        compiler, rows = self._run(values)
        return list(compiler.results_iter([rows], tuple_expected=True))

    def _run(self, values: dict[str, Any]) -> tuple[Any, list[Any]]:
        alias = router.db_for_write(self._model)
        if alias not in self._compiled:
            compiler: Any = self._build().using(alias).query.get_compiler(alias)
            text, parameters = compiler.as_sql()
            # A connection belongs to a thread, and lives no longer.
            compiler.connection = None
            self._compiled[alias] = compiler, text, parameters
        compiler, text, parameters = self._compiled[alias]
        compiler = copy.copy(compiler)
        compiler.connection = connections[alias]
        if compiler.query.select_for_update and compiler.connection.get_autocommit():
            raise TransactionManagementError("rows are locked to the end of a transaction, and there is none")
        told = [
            parameter.value_of(values[parameter.name]) if isinstance(parameter, Given) else parameter
            for parameter in parameters
        ]
        with compiler.connection.cursor() as cursor:
            cursor.execute(text, told)
            return compiler, cursor.fetchall()
