"""The monitor: keeps what was predicted and what became true, judges releases, raises alarms, answers why."""
