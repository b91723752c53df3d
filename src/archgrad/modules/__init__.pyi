from .choices import Choice as Choice
from .choices import InputChoice as InputChoice
from .choices import Repeat as Repeat
from .net import ModuleNet as ModuleNet
from .ram import peak_ram as peak_ram
from .space import ModuleSpace as ModuleSpace
from .space import module_space as module_space
from .stub import write_stub as write_stub
