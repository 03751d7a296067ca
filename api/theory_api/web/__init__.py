"""The HTTP and WebSocket doors over the services: thin controllers behind strict gates."""
