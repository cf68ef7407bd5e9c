"""What can be read out of a terminal's stream, without any I/O; used by recorder and printable."""
