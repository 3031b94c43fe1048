"""What the checks of the exercises say of an answer that is not there."""

from collections.abc import Callable, Mapping
from functools import wraps


def answer(name: str, cells: Mapping[str, object]) -> Callable:
    """The function `name` of a notebook's `cells` (its globals), which has to return something.

    Raises AssertionError, with what to do, where there is none, and when it returns nothing.
    """
    function = cells.get(name)
    assert callable(function), f"{name} is not there: run the cell above that defines it, then this"

    @wraps(function)
    def checked(*given, **named):
        found = function(*given, **named)
        assert found is not None, f"nothing is returned: let {name} end with `return ...`"
        return found

    return checked
