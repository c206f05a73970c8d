"""Weight averages to evaluate a model at, and BatchNorm statistics that belong to them."""

from selftune.averaging.batch_norm import recalibrate_batch_norm as recalibrate_batch_norm
from selftune.averaging.from_schedule import FromSchedule as FromSchedule
from selftune.averaging.lawa import LAWA as LAWA
from selftune.averaging.lawa import BlockLAWA as BlockLAWA
from selftune.averaging.post_hoc import SnapshotStore as SnapshotStore
from selftune.averaging.profiles import EMA as EMA
from selftune.averaging.profiles import Polyak as Polyak
from selftune.averaging.profiles import Polynomial as Polynomial
from selftune.averaging.profiles import PowerEMA as PowerEMA
from selftune.averaging.profiles import Profile as Profile
from selftune.averaging.profiles import Tail as Tail
from selftune.averaging.weight_average import WeightAverage as WeightAverage
