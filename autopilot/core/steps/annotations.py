"""The type that a step's body returns, as its author annotated it."""

import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Never, NoReturn, Self, Union, get_args, get_origin

from typing_extensions import Format, get_annotations

_UNTYPED = (None, type(None), Any, object, Never, NoReturn)


def declared_result(body: Callable[..., Any], returns: Any) -> Any:
    """The type of what ``body`` returns: ``returns``, else its return annotation; ``Any`` without either.

    Only the return annotation is looked at: the types of parameters need not exist at run time. An awaitable of a type
    is that type, and a class as body is the type of its instances.

    Raises:
        NameError, ...: whatever evaluating the text of an annotation raises.
    """
    function = function_of(body)
    if returns is None and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        return Any  # refused by what it returns
    declared = _awaited(_returned_by(body, function) if returns is None else returns)
    return Any if any(declared is untyped for untyped in _UNTYPED) else declared


def function_of(body: Callable[..., Any]) -> Callable[..., Any]:
    """What is called in the end: behind a partial, a bound method, an object that can be called.

    A function, and none of the objects that it may be bound to: what is kept by it holds on to no instance.
    """
    while isinstance(body, functools.partial):
        body = body.func
    if not inspect.isroutine(body):
        body = type(body).__call__
    return getattr(body, "__func__", body)


def _returned_by(body: Callable[..., Any], function: Callable[..., Any]) -> Any:
    while isinstance(body, functools.partial):
        body = body.func
    if isinstance(body, type) or get_origin(body) is not None:
        return body
    for candidate in (function, _unwrapped(body)):
        annotations = get_annotations(candidate, format=Format.FORWARDREF)
        declared = _evaluated(annotations.get("return", Any), _unwrapped(candidate))
        if declared is not Any:
            return _own_class(body) if declared is Self else declared
    return Any


def _unwrapped(body: Callable[..., Any]) -> Callable[..., Any]:
    # By the attributes of the object itself: a proxy has every attribute that it is asked for.
    while (wrapped := getattr(body, "__dict__", {}).get("__wrapped__", body)) is not body:
        body = wrapped
    function = function_of(body)
    return function if function is body else _unwrapped(function)


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """The annotation with every text in it evaluated, where the function was written."""
    if isinstance(annotation, type) or annotation is Any:
        return annotation
    within = {parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())}
    if inspect.isfunction(function):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                within[name] = cell.cell_contents

    def annotated() -> None: ...

    annotated.__annotations__ = {"return": annotation}
    hints = typing.get_type_hints(annotated, getattr(function, "__globals__", {}), within, include_extras=True)
    return hints["return"]


def _awaited(declared: Any) -> Any:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in {Union, types.UnionType}:
        return Union[tuple(_awaited(argument) for argument in arguments)]  # noqa: UP007 - of a tuple
    is_awaitable = isinstance(origin or declared, type) and issubclass(origin or declared, Awaitable)
    return (arguments[-1] if arguments else Any) if is_awaitable else declared


def _own_class(body: Callable[..., Any]) -> Any:
    owner = getattr(body, "__self__", Any)
    return owner if isinstance(owner, type) or owner is Any else type(owner)
