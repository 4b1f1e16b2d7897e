"""The recipe: :mod:`schema` is the whole; the files beside it are its sections.

:mod:`reading` makes one of a file.
"""

from limbeck.recipe.delivery import Bench, Evaluate, Export, Quantize
from limbeck.recipe.feed import Augment, Chance, Data, Resize
from limbeck.recipe.losses import Edges, Ramp, TaskLoss, Term
from limbeck.recipe.reading import changed, from_dict, merged, packaged, read
from limbeck.recipe.schema import Recipe, Task
from limbeck.recipe.search import Range, Search
from limbeck.recipe.section import Component, Section
from limbeck.recipe.teaching import Teacher
from limbeck.recipe.training import Distil, Model, Optimizer, Qat, Schedule, Train

__all__ = [
    "Augment",
    "Bench",
    "Chance",
    "Component",
    "Data",
    "Distil",
    "Edges",
    "Evaluate",
    "Export",
    "Model",
    "Optimizer",
    "Qat",
    "Quantize",
    "Ramp",
    "Range",
    "Recipe",
    "Resize",
    "Schedule",
    "Search",
    "Section",
    "Task",
    "TaskLoss",
    "Teacher",
    "Term",
    "Train",
    "changed",
    "from_dict",
    "merged",
    "packaged",
    "read",
]
