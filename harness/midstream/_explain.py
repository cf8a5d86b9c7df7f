"""What is wrong with a file that a user wrote: the key, what it may be, and what stands there instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """All problems in one line, each with its key and what is allowed there."""
    said: dict[str, list[str]] = {}
    about: dict[str, str] = {}
    for problem in error.errors():
        keys, parent, field = _place(problem["loc"], root)
        key = ".".join(keys) or "(top level)"
        if problem["type"] == "extra_forbidden":
            words = f"unknown key; allowed: {', '.join(parent.model_fields)}"
        else:
            words = _words(problem)
        if words not in said.setdefault(key, []):
            said[key].append(words)
        if problem["type"] in _KINDS:
            about[key] = f", not {_shown(problem['input'])}{f' ({field})' if field else ''}"
    # Of a type with branches, the one that fits best is meant: it says what is wrong within.
    meant = [key for key in said if not any(other.startswith(f"{key}.") for other in said)]
    return "; ".join(f"{key}: {_joined(said[key])}{about.get(key, '')}" for key in meant)


def _place(loc: tuple[int | str, ...], root: type[BaseModel]) -> tuple[list[str], type[BaseModel], str]:
    """The keys down to a problem, the model that the last of them is in, and what its field is for."""
    keys: list[str] = []
    model: Any = root
    parent, described = root, ""
    for part in loc:
        # Behind a field come its indices and the branches of its type, which say nothing to an author.
        if isinstance(model, type) and issubclass(model, BaseModel):
            keys.append(str(part))
            parent = model
            field = model.model_fields.get(str(part))
            model, described = (field.annotation, field.description or "") if field else (None, "")
        elif get_origin(model) is dict:
            keys.append(str(part))
            model = None
        elif isinstance(part, int):
            keys.append(str(part))
    return keys, parent, described


def _words(problem: Mapping[str, Any]) -> str:
    """One problem in our words; those of the library for what no model here asks."""
    context = problem.get("ctx", {})
    match problem["type"]:
        case kind if kind in _KINDS:
            return _KINDS[kind]
        case "missing":
            return "is missing"
        case "literal_error":
            return f"must be {context['expected']}, not {_shown(problem['input'])}"
        case "greater_than":
            return f"must be above {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "string_too_short" | "too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "string_pattern_mismatch":
            return f"must fit {context['pattern']}, not {_shown(problem['input'])}"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case _:
            return str(problem["msg"]).removeprefix("Value error, ")


def _joined(words: list[str]) -> str:
    kinds = [word for word in words if word in _KINDS.values()]
    rest = [word for word in words if word not in kinds]
    return " or ".join([*rest, *([f"must be {' or '.join(kinds)}"] if kinds else [])])


def _shown(value: object) -> str:
    """A value as its file has it; of a list or table, that it is one."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a table"
    return str(value).lower() if isinstance(value, bool) else repr(value)
