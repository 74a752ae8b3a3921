"""Message classes of the Open Inference Protocol, made in a descriptor pool of our own.

The protocol's package is called `inference` wherever it is used, and one process can register a package of that name
only once in protobuf's default pool. A private pool lets this library live beside tritonclient and its kin.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .schema import SCHEMA

POOL = descriptor_pool.DescriptorPool()
DESCRIPTOR = POOL.AddSerializedFile(SCHEMA)

globals().update(
    {name: message_factory.GetMessageClass(kind) for name, kind in DESCRIPTOR.message_types_by_name.items()}
)

DataType = EnumTypeWrapper(DESCRIPTOR.enum_types_by_name["DataType"])
globals().update(DataType.items())
