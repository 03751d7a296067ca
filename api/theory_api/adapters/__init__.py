"""One folder per technology; transport and storage only, no policy."""
