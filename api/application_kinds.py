"""Registry of all kinds of applications that this installation has."""

from core.workflow.device_forms import DEVICE_FORMS
from core.workflow.kinds import KindRegistry

KINDS = KindRegistry(DEVICE_FORMS)
