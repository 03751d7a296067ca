"""Modal: processors that were deployed there, found and deployed through its SDK."""
