"""Processors as child processes of the control plane: no sandbox, for development and the demo."""

from theory_api.adapters.process.environment import Environments
from theory_api.adapters.process.resolver import folder_resolver
from theory_api.adapters.process.transport import ProcessPace, ProcessWsAdapter

__all__ = ["Environments", "ProcessPace", "ProcessWsAdapter", "folder_resolver"]
