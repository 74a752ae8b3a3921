"""The topic table as production has it: more than one partition, so that what depends on partitions is tested."""

from dataclasses import replace

from millrace.bus.topics import TopicTable, load_topics


def partitioned(partitions: int = 2) -> TopicTable:
    """The repository's table with `partitions` for the topics of projects; the others as they are."""
    rows = load_topics().rows
    return TopicTable(tuple(replace(r, partitions=partitions) if "{project}" in r.pattern else r for r in rows))
