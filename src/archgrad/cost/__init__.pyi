from .cost import Cost as Cost
from .cost import spelled as spelled
from .cost import written as written
from .counting import costs as costs
from .counting import count as count
from .limits import Limit as Limit
from .limits import Limits as Limits
