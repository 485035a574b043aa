"""Forms 1 to 4 of the monitoring devices: parameter change, installation of hardware and of software, stop."""

from core.workflow.device_forms.hardware_installation import HARDWARE_INSTALLATION
from core.workflow.device_forms.parameter_change import PARAMETER_CHANGE
from core.workflow.device_forms.software_installation import SOFTWARE_INSTALLATION
from core.workflow.device_forms.stop import STOP

DEVICE_FORMS = (PARAMETER_CHANGE, HARDWARE_INSTALLATION, SOFTWARE_INSTALLATION, STOP)
