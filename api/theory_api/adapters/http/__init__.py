"""Legacy HTTP: runs by `POST /run-stream`, for servers that speak nothing better."""
