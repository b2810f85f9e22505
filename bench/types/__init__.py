"""Records and protocols that the layers share, and the errors that a user can mend; standard library only."""

from bench.types.classifier import Adjustable, BaseClassifier, Counted, Denoising, Noise, Replayable, Scalar
from bench.types.dataset import RADII, ClassOrder, Dataset, DatasetSource, Image, PublishedLogs
from bench.types.method import Method, Param, Role, Setting, TrainRequest, WeightsFile, family
from bench.types.outcome import ABSTAIN, FORCED, NOT_FINITE, WRONG, Certificate, Counts, Row
from bench.types.representation import GenerateRequest, Generator, Representation, RepresentRequest
from bench.types.run import ALWAYS, AUTO, COMPILE, EXECUTORS, LOCAL, NEVER, RAY, SLURM, Execution, RunSpec

__all__ = [
    "ABSTAIN",
    "ALWAYS",
    "AUTO",
    "COMPILE",
    "EXECUTORS",
    "FORCED",
    "LOCAL",
    "NEVER",
    "NOT_FINITE",
    "RADII",
    "RAY",
    "SLURM",
    "WRONG",
    "Adjustable",
    "BaseClassifier",
    "Certificate",
    "ClassOrder",
    "Counted",
    "Counts",
    "Dataset",
    "DatasetSource",
    "Denoising",
    "Execution",
    "GenerateRequest",
    "Generator",
    "Image",
    "Method",
    "Noise",
    "Param",
    "PublishedLogs",
    "Replayable",
    "RepresentRequest",
    "Representation",
    "Role",
    "Row",
    "RunSpec",
    "Scalar",
    "Setting",
    "TrainRequest",
    "WeightsFile",
    "family",
]
