"""A network that loses answers: between a function and Firestore, a part of them never arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import grpc
import grpc.aio

TENTH = 0.1


class LossyProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Hands every call on to a gRPC server, and loses a part of the answers, once the server has given them.

    Of the lost ones every other is an error at once, as when a connection breaks; the rest never comes, as when a
    packet filter forgets the connection.

    Attributes:
        loses: the part of the answers that is lost.
        lost: how many were.
    """

    def __init__(self, upstream: grpc.aio.Channel, chance: Random, loses: float) -> None:
        self._upstream = upstream
        self._chance = chance
        self.loses = loses
        self.lost = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        # On the wire a unary call is a stream of one message: one handler does for all.
        method = handler_call_details.method

        async def hand_on(
            requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
        ) -> AsyncIterator[bytes]:
            metadata = [(key, value) for key, value in context.invocation_metadata() or () if key != "user-agent"]
            call = self._upstream.stream_stream(method)(requests, metadata=metadata, timeout=context.time_remaining())
            answers: list[bytes] = []
            try:
                answers.extend([answer async for answer in call])
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", error.trailing_metadata() or ())
            if self._chance.random() < self.loses:
                self.lost += 1
                if self.lost % 2:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
                await asyncio.Event().wait()
            for answer in answers:
                yield answer

        return grpc.stream_stream_rpc_method_handler(hand_on)


@asynccontextmanager
async def lossy_proxy(upstream: str, chance: Random, *, loses: float = TENTH) -> AsyncIterator[tuple[str, LossyProxy]]:
    """A proxy before the server at ``upstream`` (``host:port``): its own address, and itself."""
    async with grpc.aio.insecure_channel(upstream) as channel:
        proxy, server = LossyProxy(channel, chance, loses), grpc.aio.server()
        server.add_generic_rpc_handlers((proxy,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}", proxy
        finally:
            await server.stop(grace=None)
