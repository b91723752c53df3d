from .batches import Loaders as Loaders
from .calibration import recalibrate as recalibrate
from .search import Search as Search
