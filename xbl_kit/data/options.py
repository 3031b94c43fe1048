"""Options as a function's annotations want them, also where they come as text from a command."""

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

TRUTH = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(("false", "no", "0"), False)
FORMS = {NoneType: "none", bool: "true or false", int: "a whole number", float: "a number"}
FORMS |= {str: "text", Path: "a path"}
FORMS |= {Sequence[int]: "whole numbers, as 50,60", Sequence[float | int]: "numbers, as 1,99"}
FORMS |= {Sequence[str]: "names, as A,B", Sequence[str | Path]: "paths, as A,B"}
RANK = {NoneType: -4, bool: -3, int: -2, float: -1, Path: 1, str: 2}  # text is whatever else is not


def keywords(function: Callable) -> list[str]:
    """The names of a function's options."""
    return [name for name, p in signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def fitted(options: Mapping[str, object], function: Callable) -> dict[str, Any]:
    """The `options` that are a function's own, each as its annotation wants it.

    One value will do for a list, and text is read: "AP,PA" is ("AP", "PA"), "none" is None.
    Raises ValueError naming an option of a wrong type, and what was expected.
    """
    hints = get_type_hints(function)
    own = [name for name in keywords(function) if name in options]
    return {name: fit(name, options[name], hints[name]) for name in own}


def fit(name: str, value: object, hint: Any) -> Any:
    """A value as one annotation wants it; ValueError, which says its `name`, for a wrong type."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = sorted(kinds, key=lambda kind: RANK.get(kind, 0))
    for kind in kinds:
        with suppress(ValueError, TypeError, KeyError):
            return _as(value, kind)
    forms = [FORMS.get(kind, "what only Python can give") for kind in kinds]
    raise ValueError(f"{name}={value!r}: expected {' or '.join(forms)}")


def _as(value: Any, kind: Any) -> Any:
    """The value as one kind of thing; raises ValueError, TypeError or KeyError where it is none."""
    text = isinstance(value, str)
    if kind is NoneType and (value is None or (text and value.lower() == "none")):
        return None
    if kind is bool:
        return TRUTH[str(value).strip().lower()]
    if isinstance(value, bool) and kind in (int, float):
        raise TypeError
    if kind is int:
        return int(value) if text else operator.index(value)
    if kind is float:
        return float(value)
    if kind in (str, Path) and isinstance(value, str | Path):
        return kind(value)
    if get_origin(kind) is Sequence and not isinstance(value, Mapping):
        parts = [part.strip(" '\"") for part in value.strip("[]() ").split(",")] if text else value
        parts = [parts] if isinstance(parts, int | float | Path) else parts
        return tuple(fit("", each, get_args(kind)[0]) for each in parts if each != "")
    if kind is not NoneType and isinstance(value, get_origin(kind) or kind):
        return value
    raise ValueError
