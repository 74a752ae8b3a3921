"""Rules of the door: contracts, visible time, repeated ids, profiles. Pure: time and secrets come as arguments."""
