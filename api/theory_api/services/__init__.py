"""The use cases that web and command line share."""
