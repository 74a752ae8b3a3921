"""What every door does: identify the caller, take up its trace, and turn a RoomError into the protocol's own words."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any

import grpc
from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import JSONResponse

from millrace.runtime import auth, trace
from millrace.runtime.auth import COOKIE, Authenticator
from millrace.runtime.errors import Exhausted, RoomError, TooLarge, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

STATUS_CODES: dict[str, tuple[grpc.StatusCode, int]] = {
    "not_found": (grpc.StatusCode.NOT_FOUND, 404),
    "invalid": (grpc.StatusCode.INVALID_ARGUMENT, 400),
    "conflict": (grpc.StatusCode.ABORTED, 409),
    "precondition": (grpc.StatusCode.FAILED_PRECONDITION, 409),
    # As gRPC itself says of a message over its bound. The time to come back is never: as it is, it never fits.
    "too_large": (grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    "exhausted": (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    "unavailable": (grpc.StatusCode.UNAVAILABLE, 503),
    "deadline": (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    "unauthenticated": (grpc.StatusCode.UNAUTHENTICATED, 401),
    "denied": (grpc.StatusCode.PERMISSION_DENIED, 403),
    "data_loss": (grpc.StatusCode.DATA_LOSS, 500),
}
RETRY_AFTER = "retry-after-ms"
NEVER_MS = "-1"  # in RETRY_AFTER: not again as it is
_OPEN_GRPC = "/grpc.health.v1.Health/"
_OPEN_HTTP = ("/healthz", "/readyz", "/static/")

Scope = MutableMapping[str, Any]
Enter = Callable[[Any], None]
Fail = Callable[[grpc.aio.ServicerContext[Any, Any], RoomError], Awaitable[None]]


Informed = Callable[[], bool]


def always() -> bool:
    """Of a door whose room has nothing to read before it can answer."""
    return True


def grpc_errors(
    authenticator: Authenticator | None = None, is_informed: Informed = always
) -> grpc.aio.ServerInterceptor[Any, Any]:
    """The interceptor of every room's gRPC server; without an authenticator everybody is `local`.

    Before the room `is_informed`, not to know something means nothing: UNAVAILABLE instead of NOT_FOUND.
    """
    return _Door(authenticator or Authenticator({}), is_informed)


class _Door(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    def __init__(self, authenticator: Authenticator, is_informed: Informed) -> None:
        self._authenticator = authenticator
        self._is_informed = is_informed
        # One per method that is served: to wrap the handler anew for each call took a fifth of a small call's time.
        self._handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: Any) -> Any:
        method = details.method
        if method not in self._handlers:
            handler = await continuation(details)
            if handler is None:
                return None
            self._handlers[method] = self._wrapped(handler, method)
        return self._handlers[method]

    def _wrapped(self, handler: Any, method: str) -> Any:
        is_open = method.startswith(_OPEN_GRPC)

        def enter(context: Any) -> None:
            metadata = dict(context.invocation_metadata() or ())
            trace.enter(str(metadata.get(trace.HEADER, "")))
            if not is_open:
                auth.enter(self._authenticator.identify(str(metadata.get("authorization", ""))))

        async def fail(context: grpc.aio.ServicerContext[Any, Any], error: RoomError) -> None:
            await _abort(context, as_known(error, self._is_informed), method)

        return _wrap(handler, enter, fail)


def as_known(error: RoomError, is_informed: Informed) -> RoomError:
    """`error`, or that it is too early to say so."""
    if error.code == "not_found" and not is_informed():
        return Unavailable(f"this room is starting and does not know everything yet: {error}")
    return error


def _wrap(handler: Any, enter: Enter, fail: Fail) -> Any:
    """The same handler behind `enter` and the error map, whatever its streaming kind."""
    if handler.response_streaming:
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        wrapped: Any = _streaming(inner, enter, fail)
    else:
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        wrapped = _unary(inner, enter, fail)
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _unary(inner: Callable[..., Any], enter: Enter, fail: Fail) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            enter(context)
            return await inner(request, context)
        except RoomError as error:
            await fail(context, error)

    return call


def _streaming(inner: Callable[..., Any], enter: Enter, fail: Fail) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            enter(context)
            replies = inner(request, context)
            if hasattr(replies, "__aiter__"):
                async for reply in replies:
                    yield reply
            else:
                await replies  # a servicer that writes through its context
        except RoomError as error:
            await fail(context, error)

    return call


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: RoomError, method: str) -> None:
    status = STATUS_CODES.get(error.code, (grpc.StatusCode.INTERNAL, 500))[0]
    _report(error, method)
    trailing: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Exhausted):
        trailing = ((RETRY_AFTER, str(error.retry_after_ms)),)
    elif isinstance(error, TooLarge):
        trailing = ((RETRY_AFTER, NEVER_MS),)
    await context.abort(status, str(error), trailing)


def _report(error: RoomError, where: str) -> None:
    known = error.code in STATUS_CODES
    level = logging.DEBUG if known and error.code not in ("data_loss", "unavailable") else logging.WARNING
    log.log(level, "%s: %s: %s", where, error.code, error, exc_info=None if known else error)


def install_http_errors(app: FastAPI, authenticator: Authenticator, is_informed: Informed = always) -> None:
    """Identity, trace and error map for every HTTP route of the app; `is_informed` as for `grpc_errors`."""

    @app.exception_handler(RoomError)
    async def explain(request: Request, error: RoomError) -> JSONResponse:
        error = as_known(error, is_informed)
        _report(error, request.url.path)
        return http_error(error)

    app.add_middleware(_HttpDoor, authenticator=authenticator)


def http_error(error: RoomError) -> JSONResponse:
    """The JSON answer of a failure, with Retry-After (seconds) where waiting helps."""
    status = STATUS_CODES.get(error.code, (grpc.StatusCode.INTERNAL, 500))[1]
    headers = {}
    if isinstance(error, Exhausted):
        headers = {"Retry-After": str(max(1, -(-error.retry_after_ms // 1000))), RETRY_AFTER: str(error.retry_after_ms)}
    return JSONResponse({"code": error.code, "error": str(error)}, status_code=status, headers=headers)


class _HttpDoor:
    """Plain ASGI: a BaseHTTPMiddleware would run the route in another context and lose the identity."""

    def __init__(self, app: Callable[..., Awaitable[None]], authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        trace.enter(headers.get(trace.HEADER, ""))
        try:
            if not scope["path"].startswith(_OPEN_HTTP):
                auth.enter(self._authenticator.identify(headers.get("authorization") or _from_cookie(headers)))
        except Unauthenticated as error:
            await http_error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _from_cookie(headers: dict[str, str]) -> str:
    morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    return f"Bearer {morsel.value}" if morsel else ""
