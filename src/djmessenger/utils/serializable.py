"""Conversion of objects to JSON and back: the documented ``Serializable`` and ``SerializableEnum``."""

from __future__ import annotations

import copy
import datetime
import decimal
import difflib
import functools
import inspect
import json
import keyword
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from django.utils.functional import Promise

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.files import read_file


class _Plan(NamedTuple):
    """Parameters of the constructor of a class, by JSON key; computed once for each class."""

    parameters: dict[str, str]
    required: frozenset[str]
    defaults: dict[str, Any]
    several: str
    """Key whose list is passed as ``*parameters``, if these come first; otherwise empty."""
    takes_any: bool
    """True if the constructor has ``**parameters``, which accept every other key."""


@functools.cache
def _plan(cls: type[Serializable]) -> _Plan:
    parameters: dict[str, str] = {}
    required: set[str] = set()
    defaults: dict[str, Any] = {}
    several, takes_any = "", False
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL and not parameters:
            several = cls.json_key(name)
        takes_any = takes_any or parameter.kind is parameter.VAR_KEYWORD
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            continue
        key = cls.json_key(name)
        parameters[key] = name
        if parameter.default is parameter.empty:
            required.add(key)
        else:
            defaults[key] = parameter.default
    return _Plan(parameters, frozenset(required), defaults, several, takes_any)


class Serializable:
    """Parent of classes whose instances are converted to JSON and back.

    ``custom_obj_map`` maps an attribute to the class of its value, or of the items of its list::

        class Order(Serializable):
            custom_obj_map = {"buyer": [Person, object], "lines": [Line, list]}

            def __init__(self, buyer, lines=None):
                self.buyer = buyer
                self.lines = lines or []

    Reading calls the constructor with the keys that it names, and with ``None`` for a required key that is
    absent. Every other key becomes an attribute. A key that would hide a method, or that is no identifier, is
    kept as data and written back, but never set as an attribute. Attributes with a leading underscore are not
    written unless ``exclude_underscore`` is false. Two instances are equal if type and JSON are equal.
    """

    custom_obj_map: ClassVar[Mapping[str, Any]] = {}
    includes: ClassVar[Iterable[str]] = ()
    """Attributes that are written although they are private or excluded."""
    excludes: ClassVar[Iterable[str]] = ()
    """Attributes that are not written."""
    exclude_underscore: ClassVar[bool] = True
    exclude_underscode: ClassVar[bool] = True
    """Spelling of 2016; private attributes are written too if one of the two is false."""
    ordering: ClassVar[Iterable[str]] = ()
    """Attributes that are written first, in this order."""
    strict: ClassVar[bool] = False
    """True if a missing or unknown key is an error, as for parts of a policy."""
    json_names: ClassVar[Mapping[str, str]] = {"iid": "id", "llong": "long", "ttype": "type"}
    """JSON keys by constructor parameter, for parameters with another name than their key."""

    @classmethod
    def json_key(cls, parameter: str) -> str:
        return cls.json_names.get(parameter, parameter)

    @classmethod
    def deserialize(cls, json_data: Any) -> Self:
        """Build an instance from a dict, or from JSON as text or bytes.

        Raise ``ValueError`` if the JSON cannot be read or is no object.
        """
        if isinstance(json_data, (str, bytes, bytearray)):
            try:
                json_data = json.loads(json_data)
            except RecursionError as error:
                raise ValueError("the JSON is nested too deep") from error
        if isinstance(json_data, cls):
            return json_data
        if not isinstance(json_data, Mapping):
            raise ValueError(
                f"{cls.__name__} is read from a JSON object, not from {type(json_data).__name__}"
            )
        return cls._from_json(json_data)

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        # mypy does not accept ``type[Self]`` as hashable.
        plan = _plan(cls)  # type: ignore[arg-type]
        if cls.strict:
            cls._refuse_mistakes(plan, data)
        values = {key: cls._value_from_json(key, value) for key, value in data.items()}
        taken: Set[str] = plan.parameters.keys() & values.keys()
        arguments = {plan.parameters[key]: values[key] for key in taken}
        absent = plan.required - values.keys()
        if cls.strict and plan.takes_any:
            further = {key for key in values.keys() - taken - {plan.several} if key.isidentifier()}
            arguments |= {key: values[key] for key in further}
            taken |= further
        several = values.get(plan.several)
        if not absent and isinstance(several, (list, tuple)):
            instance, taken = cls(*several, **arguments), taken | {plan.several}
        elif not absent:
            instance = cls(**arguments)
        else:
            # A constructor of 2016 may store its arguments under other names, so it has to run all the same.
            try:
                instance = cls(**arguments, **dict.fromkeys(map(plan.parameters.__getitem__, absent)))
            except Exception:  # noqa: BLE001  # any constructor may fail on None
                instance, taken = cls._without_constructor(plan), frozenset()
        for key, value in values.items():
            if key not in taken:
                instance._set_from_json(key, value)
        return instance

    @classmethod
    def _refuse_mistakes(cls, plan: _Plan, data: Mapping[str, Any]) -> None:
        missing = sorted(plan.required - data.keys())
        if missing:
            raise DJMInvalidConfigException(f"{cls.__name__} needs {', '.join(missing)}")
        if plan.takes_any:
            return
        arguments = {*plan.parameters, *cls.custom_obj_map, *filter(None, [plan.several])}
        for key in data:
            if key not in arguments and not (hasattr(cls, key) and cls._is_settable(key)):
                near = difflib.get_close_matches(key, arguments, 1)
                hint = (
                    f"; did you mean {near[0]!r}?"
                    if near
                    else f"; it takes {', '.join(sorted(arguments)) or 'none'}"
                )
                raise DJMInvalidConfigException(f"{cls.__name__} has no argument {key!r}{hint}")

    @classmethod
    def _without_constructor(cls, plan: _Plan) -> Self:
        instance = cls.__new__(cls)
        for key, default in plan.defaults.items():
            instance._set_from_json(key, copy.copy(default))
        for key in plan.required:
            instance._set_from_json(key, None)
        return instance

    @classmethod
    def _value_from_json(cls, key: str, value: Any) -> Any:
        entry = cls.custom_obj_map.get(key)
        if entry is None or value is None:
            return value
        target, holder = entry[0], entry[1]
        if holder is list:
            if not isinstance(value, (list, tuple)):
                return value
            return [
                target.deserialize(item) if isinstance(item, (Mapping, target)) else item for item in value
            ]
        return target.deserialize(value)

    def _set_from_json(self, key: str, value: Any) -> None:
        if self._is_settable(key):
            setattr(self, key, value)
        else:
            self.__dict__.setdefault("_unset", {})[key] = value

    @classmethod
    def _is_settable(cls, key: str) -> bool:
        if (
            not key.isidentifier()
            or keyword.iskeyword(key)
            or key.startswith("_")
            or hasattr(Serializable, key)
        ):
            return False
        present = inspect.getattr_static(cls, key, None)
        return not (callable(present) or isinstance(present, (classmethod, staticmethod, property)))

    def json_unordered(self) -> dict[str, Any]:
        """Return the JSON-ready dict in the order of the attributes, regardless of ``ordering``."""
        private = not (self.exclude_underscore and self.exclude_underscode)
        includes, excludes = frozenset(self.includes), frozenset(self.excludes)
        result: dict[str, Any] = {}
        for name, value in vars(self).items():
            is_written = private or not name.startswith("_")
            if name == "_unset" or not ((is_written and name not in excludes) or name in includes):
                continue
            result[name] = to_json(value)
        for key, value in vars(self).get("_unset", {}).items():
            result.setdefault(key, to_json(value))
        return result

    def json(self) -> dict[str, Any]:
        """Return the JSON-ready dict, the keys of ``ordering`` first."""
        values = self.json_unordered()
        first = [key for key in self.ordering if key in values]
        return {key: values[key] for key in [*first, *(key for key in values if key not in first)]}

    def serialize(self) -> str:
        """Return the JSON text."""
        return json.dumps(self.json(), ensure_ascii=False)

    @classmethod
    def read_json(cls, json_file: str | Path) -> Self:
        """Build an instance from a UTF-8 file; the ``OSError`` or ``ValueError`` of a failure names the file."""
        path = Path(json_file)
        try:
            return cls.deserialize(read_file(path))
        except ValueError as error:
            raise ValueError(f"{path} contains no {cls.__name__}: {error}") from error

    def write_json(self, destination: str | Path) -> None:
        """Write the JSON to a UTF-8 file."""
        Path(destination).write_text(self.serialize(), encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Serializable) or type(self) is not type(other):
            return NotImplemented
        return self.json() == other.json()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.json(), sort_keys=True)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.serialize()}>"


def to_json(value: Any) -> Any:
    """Return the JSON-ready form of a value; raise ``TypeError`` if it has none."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Serializable, SerializableEnum)):
        return value.json()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (Promise, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


class _Member(NamedTuple):
    spelling: str
    description: str
    attributes: dict[str, Any]


def member(spelling: str, description: str = "", **attributes: Any) -> Any:
    """Declare a member in the body of a ``SerializableEnum``; the class replaces it by the member.

    The member gets ``attributes`` as its attributes.
    """
    return _Member(spelling, description, attributes)


class SerializableEnum:
    """Parent of enumerations whose members are written as plain text in JSON.

    Not an ``enum.Enum``: a project adds a member by creating it. A second creation under the same name returns
    the existing member. ``members`` maps spelling to member.
    """

    members: ClassVar[dict[str, Any]] = {}

    name: str
    """Spelling in JSON."""
    description: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.members = dict(cls.members)
        for attribute, declared in list(vars(cls).items()):
            if isinstance(declared, _Member):
                created = cls(declared.spelling, declared.description)
                vars(created).update(declared.attributes)
                setattr(cls, attribute, created)

    def __new__(cls, name: str, description: str = "") -> Self:
        member_of_name = cls.members.get(name)
        if member_of_name is not None:
            existing: Self = member_of_name
            return existing
        created = super().__new__(cls)
        created.name = name
        created.description = description
        cls.members[name] = created
        return created

    def __init__(self, name: str, description: str = "") -> None:
        """Create the member with its spelling in JSON and a sentence about its meaning."""

    @classmethod
    def value_of(cls, name: str) -> Self:
        """Return the member with this spelling or attribute name; raise ``KeyError`` if there is none."""
        if name in cls.members:
            spelled: Self = cls.members[name]
            return spelled
        attribute = vars(cls).get(name)
        if isinstance(attribute, cls):
            return attribute
        near = difflib.get_close_matches(name.upper()[:120], cls.members, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(cls.members))}"
        raise KeyError(f"{cls.__name__} has no member {name!r}; {hint}")

    @classmethod
    def get_members(cls) -> dict[str, Self]:
        """Return a dict of spelling to member."""
        return dict(cls.members)

    @classmethod
    def deserialize(cls, json_data: Any) -> Self:
        """Return the member that the text names; raise ``KeyError`` if there is none."""
        return json_data if isinstance(json_data, cls) else cls.value_of(str(json_data))

    @property
    def value(self) -> str:
        return self.name

    def serialize(self) -> str:
        """Return the spelling of the member."""
        return self.name

    def json(self) -> str:
        """Return the spelling of the member."""
        return self.name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"({type(self).__name__}) {self.name}"

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.name, self.description)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
