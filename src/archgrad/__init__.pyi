from .arch.genotype import Genotype as Genotype
from .arch.mixture import Mixture as Mixture
from .data.arrays import dataset as dataset
from .data.batches import search_data as search_data
from .data.loading import load as load
from .methods import method as method
from .modules.choices import Choice as Choice
from .modules.choices import InputChoice as InputChoice
from .modules.choices import Repeat as Repeat
from .modules.space import module_space as module_space
from .retraining.evaluating import evaluate as evaluate
from .retraining.execute import retrain as retrain
from .retraining.predicting import predict as predict
from .run.alpha_record import alphas as alphas
from .searching.compose import compose as compose
from .searching.loop import search as search
from .searching.method import Method as Method
from .searching.patch import Patch as Patch
from .spaces import space as space
from .user_loop.search import Search as Search

__version__: str
