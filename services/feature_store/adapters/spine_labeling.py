"""The labelled spine, from labeling over gRPC."""

from __future__ import annotations

import grpc
import pyarrow as pa
from millrace.runtime.errors import Unavailable
from millrace.wire.labeling.v1 import service_pb2, service_pb2_grpc

from services.feature_store.ports import Spools


class LabelingSpine:
    """A SpineSource."""

    def __init__(self, channel: grpc.aio.Channel, spools: Spools) -> None:
        self._stub = service_pb2_grpc.LabelingStub(channel)  # type: ignore[no-untyped-call]
        self._spools = spools

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """As `SpineSource.spine`. Raises Unavailable when labeling does not answer."""
        request = service_pb2.SpineRequest(project=project, from_us=from_us, to_us=to_us, as_of_us=as_of_us)
        spool = self._spools.open()
        try:
            async for chunk in self._stub.Spine(request):
                await spool.write(chunk.data)
            return await spool.table()
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"labeling did not give the spine: {error.details()}") from error
        except pa.ArrowInvalid as error:
            raise Unavailable(f"labeling's spine is no whole Arrow stream: {error}") from error
        finally:
            await spool.close()
