"""A stand-in for a stream object of any type: the same to its user, but its chunks and its end are seen.

The stand-in of a type has exactly the special methods that the type has, so that ``isinstance(stream, AsyncIterable)``
and the like answer as before.
"""

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Watch(Protocol):
    def chunk(self, chunk: object) -> None: ...
    def end(self, error: BaseException | None = None, reason: str | None = None) -> None: ...
    def closed(self) -> None: ...


class _Proxy:
    __slots__ = ("__weakref__", "_advance", "_source", "_watch")

    def __init__(self, source: Any, watch: Watch) -> None:
        _set_source(self, source)
        _set_watch(self, watch)
        _set_advance(self, None)

    def __getattribute__(self, name: str) -> Any:
        source = _source(self)
        if name == "__class__":
            return type(source)
        value = getattr(source, name)
        if name in ("close", "aclose") and callable(value):
            return functools.partial(_close, value, _watch(self))
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_source(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_source(self), name)


# The slots behind the names, which are the source's.
_slots: Mapping[str, Any] = vars(_Proxy)
_source, _set_source = _slots["_source"].__get__, _slots["_source"].__set__
_watch, _set_watch = _slots["_watch"].__get__, _slots["_watch"].__set__
_advance, _set_advance = _slots["_advance"].__get__, _slots["_advance"].__set__


def proxy(source: T, watch: Watch) -> T:
    """Stand in for *source*, which iterates, sync or async.

    Raises:
        TypeError: It does not iterate.
    """
    kind: type[Any] = type(source)
    proxy_type = _proxy_types.get(kind)
    if proxy_type is None:
        proxy_type = _proxy_types[kind] = _proxy_type(kind)
    return cast("T", proxy_type(source, watch))


# An application streams objects of a handful of types.
_proxy_types: "weakref.WeakKeyDictionary[type[Any], type[_Proxy]]" = weakref.WeakKeyDictionary()


def _proxy_type(kind: type[Any]) -> type[_Proxy]:
    methods = {name: method for name, method in _METHODS.items() if getattr(kind, name, None) is not None}
    if not {"__iter__", "__aiter__", "__next__", "__anext__"} & methods.keys():
        raise TypeError(f"{kind.__name__} is no iterator, generator or stream")
    for name in _FORWARDED:
        if getattr(kind, name, None) is not None:
            methods[name] = _forward(name)
    return type(kind.__name__, (_Proxy,), {"__slots__": (), "__module__": kind.__module__, **methods})


def _close(close: Callable[..., Any], watch: Watch, *args: Any, **kwargs: Any) -> Any:
    # Before, because close() may be async and never awaited; what counts is that no chunk is wanted any more.
    watch.closed()
    return close(*args, **kwargs)


# --- Iteration --------------------------------------------------------------------------------------------------------


def _advancing(self: _Proxy, kind: str) -> Callable[[], Any]:
    """The source's own way to its next chunk, asked for once: iterating twice goes on where the first left off."""
    source = _source(self)
    if kind == "__next__":
        advance = (source if hasattr(type(source), "__next__") else iter(source)).__next__
    else:
        advance = (source if hasattr(type(source), "__anext__") else aiter(source)).__anext__
    _set_advance(self, advance)
    return cast("Callable[[], Any]", advance)


class _Iterator:
    """What ``iter()`` gives for a source that is no iterator itself."""

    def __init__(self, owner: _Proxy) -> None:
        self._owner = owner

    def __iter__(self) -> "_Iterator":
        return self

    def __next__(self) -> Any:
        return _next(self._owner)


class _AsyncIterator:
    def __init__(self, owner: _Proxy) -> None:
        self._owner = owner

    def __aiter__(self) -> "_AsyncIterator":
        return self

    async def __anext__(self) -> Any:
        return await _anext(self._owner)


def _iter(self: _Proxy) -> Any:
    return self if hasattr(type(_source(self)), "__next__") else _Iterator(self)


def _aiter(self: _Proxy) -> Any:
    return self if hasattr(type(_source(self)), "__anext__") else _AsyncIterator(self)


def _next(self: _Proxy) -> Any:
    watch = _watch(self)
    try:
        chunk = (_advance(self) or _advancing(self, "__next__"))()
    except StopIteration:
        watch.end()
        raise
    except BaseException as error:
        watch.end(error)
        raise
    watch.chunk(chunk)
    return chunk


async def _anext(self: _Proxy) -> Any:
    watch = _watch(self)
    try:
        chunk = await (_advance(self) or _advancing(self, "__anext__"))()
    except StopAsyncIteration:
        watch.end()
        raise
    except BaseException as error:
        watch.end(error)
        raise
    watch.chunk(chunk)
    return chunk


# --- Context managers -------------------------------------------------------------------------------------------------


def _enter(self: _Proxy) -> Any:
    source = _source(self)
    entered = source.__enter__()
    return self if entered is source else entered


def _exit(self: _Proxy, kind: Any, error: BaseException | None, traceback: Any) -> Any:
    _left(self, error)
    return _source(self).__exit__(kind, error, traceback)


async def _aenter(self: _Proxy) -> Any:
    source = _source(self)
    entered = await source.__aenter__()
    return self if entered is source else entered


async def _aexit(self: _Proxy, kind: Any, error: BaseException | None, traceback: Any) -> Any:
    _left(self, error)
    return await _source(self).__aexit__(kind, error, traceback)


def _left(self: _Proxy, error: BaseException | None) -> None:
    if error is None:
        _watch(self).closed()
    else:
        _watch(self).end(error)


_METHODS: dict[str, Callable[..., Any]] = {
    "__iter__": _iter,
    "__next__": _next,
    "__aiter__": _aiter,
    "__anext__": _anext,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
}

_FORWARDED = (
    "__repr__", "__str__", "__dir__", "__len__", "__length_hint__", "__bool__", "__eq__", "__ne__", "__hash__",
    "__contains__", "__getitem__", "__call__", "__await__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__",
)  # fmt: skip


def _forward(name: str) -> Callable[..., Any]:
    def forwarded(self: _Proxy, *args: Any) -> Any:
        return getattr(type(_source(self)), name)(_source(self), *args)

    return forwarded
