"""A double of the Hugging Face hub's API on one local port, for the real ``huggingface_hub`` client.

It is not the hub. It knows what the client of releases 0.35 and 0.36 asks for when it reads and writes models
over HTTP and Git LFS, answers with the hub's own headers and error codes, and offers no Xet. Every answer
says in its header ``server`` that it comes from a double.
"""

from tests.helpers.hub_double.faults import answer, cut, hold, spoil
from tests.helpers.hub_double.repositories import Account, Repository
from tests.helpers.hub_double.server import Call, HubDouble

__all__ = ["Account", "Call", "HubDouble", "Repository", "answer", "cut", "hold", "spoil"]
