"""The pod side of a trip: finding targets, starting processes in them and ending what is left; used by app."""
