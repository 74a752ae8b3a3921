"""What every room's process is made of: settings, doors, clock, definitions, supervision.

Nothing is imported here: each room takes the modules it needs, so that seven processes start quickly.
"""
