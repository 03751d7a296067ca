"""What a process tells about itself: events as NDJSON on stderr, with secrets removed."""
