"""JSON as Meta writes it, and parameters of a request as Graph reads them.

The encoding of callbacks: Messenger Platform, "Webhooks" (May 2026) names the escaped form of non-ASCII letters;
the other escapes are those of captured bodies. The kinds of request body: "Send API" reference (2026).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

_ESCAPES = (("/", "\\/"), ("%", "\\u0025"), ("@", "\\u0040"), ("<", "\\u003C"))

MAX_DEPTH = 100
"""Maximum depth of the JSON of a request; real calls are far below."""


def encode_like_meta(data: Any) -> bytes:
    """Return the bytes in which Meta would post ``data``: compact, ASCII only, ``/ % @ <`` escaped."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text.encode("ascii")


@dataclass(frozen=True)
class Upload:
    """A file in a multipart body."""

    name: str
    filename: str
    content_type: str
    content: bytes


@dataclass
class Parameters:
    """Parameters of query and body of a request, and its files."""

    values: dict[str, Any] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)
    malformed: bool = False
    """True if the body does not match its content type."""


def read_parameters(query: str | Mapping[str, Any], headers: Mapping[str, str], body: bytes) -> Parameters:
    """Read the parameters of query and body; those of the body win.

    Graph ignores a JSON body without the JSON content type. In each kind of body, a value may be an object as JSON
    text, because some clients send it so.
    """
    parameters = Parameters()
    pairs = parse_qsl(query, keep_blank_values=True) if isinstance(query, str) else list(query.items())
    _add(parameters.values, pairs)
    content_type = headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return parameters
    if kind == "application/json":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            parameters.malformed = True
            return parameters
        if isinstance(data, dict) and _depth(data) <= MAX_DEPTH:
            parameters.values.update((key, read_value(value)) for key, value in data.items())
        else:
            parameters.malformed = True
    elif kind == "multipart/form-data":
        _read_multipart(parameters, content_type, body)
    elif kind in {"application/x-www-form-urlencoded", ""}:
        text = body.decode("utf-8", "replace")
        _add(parameters.values, parse_qsl(text, keep_blank_values=True))
    return parameters


def read_value(value: Any) -> Any:
    """Return the object or list in a form value, single quotes allowed; otherwise the value unchanged."""
    if not isinstance(value, str) or value.strip()[:1] not in {"{", "["}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    try:
        return json.loads(_BARE_KEY.sub(_quoted, value))
    except (ValueError, RecursionError):
        return value


_BARE_KEY = re.compile(r'("(?:[^"\\]|\\.)*")|([A-Za-z_]\w*)(?=\s*:)', re.ASCII)
"""A text in double quotes, or a key without quotes, as in the samples of Meta's pages: ``{id:"123"}``."""
_BRACKETS = re.compile(r"\w+(?:\[\w{0,64}\])+", re.ASCII)


def _quoted(match: re.Match[str]) -> str:
    return match[1] or f'"{match[2]}"'


def _add(values: dict[str, Any], pairs: Iterable[tuple[str, Any]]) -> None:
    """Add form values. ``recipient[id]`` sets a key of an object; ``fields[]`` or ``fields[0]`` appends to a list."""
    for name, value in pairs:
        if not _BRACKETS.fullmatch(name) or name.count("[") > MAX_DEPTH:
            values[name] = read_value(value)
            continue
        first, *inner = name.replace("]", "").split("[")
        holder: Any = values
        for key, following in zip([first, *inner], inner, strict=False):
            is_list = not following or following.isdigit()
            present = holder.get(key) if isinstance(holder, dict) else _at(holder, key)
            if not isinstance(present, list if is_list else dict):
                present = [] if is_list else {}
                _set(holder, key, present)
            holder = present
        _set(holder, inner[-1], read_value(value))


def _at(holder: list[Any], key: str) -> Any:
    return holder[int(key)] if key.isdigit() and int(key) < len(holder) else None


def _set(holder: Any, key: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    elif key.isdigit() and int(key) < len(holder):
        holder[int(key)] = value
    else:
        holder.append(value)


def _depth(data: Any) -> int:
    """Return the depth of lists and objects, without recursion, because the data could exhaust the stack."""
    depth, level = 0, [data]
    while level:
        depth += 1
        holders = [item.values() if isinstance(item, dict) else item for item in level]
        level = [inner for holder in holders for inner in holder if isinstance(inner, (dict, list))]
    return depth


_DISPOSITION = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _read_multipart(parameters: Parameters, content_type: str, body: bytes) -> None:
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    if match is None:
        parameters.malformed = True
        return
    boundary = b"--" + match.group(1).encode("latin-1", "replace")
    for part in (b"\r\n" + body).split(b"\r\n" + boundary)[1:]:
        if part.startswith(b"--"):
            break
        head, separator, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            continue
        lines = head.decode("utf-8", "replace").split("\r\n")
        named = {
            key.strip().lower(): text.strip() for key, _, text in (line.partition(":") for line in lines)
        }
        disposition = dict(_DISPOSITION.findall(named.get("content-disposition", "")))
        name = disposition.get("name", "")
        if "filename" in disposition:
            kind = named.get("content-type", "application/octet-stream")
            parameters.files.append(Upload(name, disposition["filename"], kind, content))
        elif name:
            _add(parameters.values, [(name, content.decode("utf-8", "replace"))])
